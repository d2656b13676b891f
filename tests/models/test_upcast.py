"""A bfloat16 model that computes in float32 is the float32 model, bit for bit."""

from __future__ import annotations

import torch
from torch import nn

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
