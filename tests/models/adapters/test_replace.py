"""An adapter that no longer fits the installed transformers says so."""

import pytest
import torch
from torch import nn

from ingot.errors import UnsupportedModelError
from ingot.models.adapters import find_adapter
from ingot.models.adapters.replace import replace_method, set_slopes


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_replace_method() -> None:
    model = nn.Sequential(Attention(), nn.Identity(), Attention())
    found = replace_method(model, "Attention", "forward", lambda self, x: x + 1)
    assert found == [model[0], model[2]]
    assert model(torch.tensor(0)).item() == 2


def test_class_that_is_gone() -> None:
    with pytest.raises(UnsupportedModelError, match="no GoneAttention in Sequential"):
        replace_method(nn.Sequential(), "GoneAttention", "forward", lambda self: None)


def test_slopes_are_constants() -> None:
    module = Attention()
    set_slopes([module], torch.tensor([0.5, 0.25]))
    assert "ingot_slopes" not in module.state_dict()
    assert dict(module.named_buffers())["ingot_slopes"].tolist() == [0.5, 0.25]


def test_adapters_go_by_exact_model_type() -> None:
    assert find_adapter("bloom") is not None
    assert find_adapter("llama") is None
    assert find_adapter("bloomz") is None
