"""A bfloat16 model that computes in float32 is the float32 model, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ingot.models import upcast
from ingot.models.upcast import compute_in_float32


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, 8)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 17, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.norm(self.embedding(ids) * self.scale))
        return result


def test_equals_the_float32_model_and_keeps_its_weights_narrow() -> None:
    torch.manual_seed(0)
    model = Tied().to(torch.bfloat16)
    wide = Tied()
    wide.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    ids = torch.arange(17)
    with torch.no_grad():
        expected = wide(ids)
        actual = compute_in_float32(model)(ids)
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.head.weight is model.embedding.weight


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("rows_at_once", [1, 5, 10, 11, 12])
def test_linear_in_blocks(
    has_bias: bool, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upcast, "_BLOCK_ELEMENTS", rows_at_once * 7)
    torch.manual_seed(0)
    linear = nn.Linear(7, 11, bias=has_bias).to(torch.float16)
    x = torch.randn(2, 3, 7)
    bias = None if linear.bias is None else linear.bias.float()
    expected = torch.nn.functional.linear(x, linear.weight.float(), bias)
    with torch.no_grad():
        torch.testing.assert_close(compute_in_float32(linear)(x), expected)


def test_derived_embedding_computes_wide() -> None:
    """Gemma's embedding multiplies by a scale that it casts to the weight's dtype."""

    class Scaled(nn.Embedding):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return super().forward(ids) * torch.tensor(1.1).to(self.weight.dtype)

    torch.manual_seed(0)
    embedding = Scaled(5, 4).to(torch.bfloat16)
    with torch.no_grad():
        expected = embedding.weight.float() * 1.1
        assert torch.equal(compute_in_float32(embedding)(torch.arange(5)), expected)
