"""A model computes with what a rounding makes of its matrices, inputs, cache and attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ingot.models import rounding as rounding_module
from ingot.models.rounding import round_matrices, rounded_attention
from ingot.models.upcast import compute_in_float32


class Halves:
    """Rounds to halves, and counts the rows of each matrix that it sees."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def weight(self, name: str, rows: Tensor) -> Tensor:
        self.rows[name] = self.rows.get(name, 0) + len(rows)
        return halves(rows)

    def inputs(self, name: str, x: Tensor) -> Tensor:
        return halves(x)

    def cached(self, x: Tensor) -> Tensor:
        return halves(x)

    def queries(self, query: Tensor, value_dim: int) -> Tensor:
        return halves(query)

    def attention(self, weights: Tensor, key_dim: int, value_dim: int) -> Tensor:
        return halves(weights)


def halves(x: Tensor) -> Tensor:
    assert x.dtype == torch.float32
    return torch.round(x * 2) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows_at_once", [1, 5, 11])
def test_linear(dtype: torch.dtype, rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding_module, "_BLOCK_ELEMENTS", rows_at_once * 7)
    model = nn.Sequential(nn.Linear(7, 11)).to(dtype)
    nn.init.normal_(model[0].weight)
    x, rounding = torch.randn(2, 3, 7), Halves()
    weight, bias = model[0].weight.float(), model[0].bias.float()
    with torch.no_grad():
        round_matrices(compute_in_float32(model), rounding)
        torch.testing.assert_close(model(x), halves(x) @ halves(weight).T + bias)
    assert rounding.rows == {"0.weight": 11}
    assert model[0].weight.dtype == dtype


def test_transposed_weight() -> None:
    from transformers.pytorch_utils import Conv1D

    model = nn.Sequential(Conv1D(5, 3))
    nn.init.normal_(model[0].weight)
    x = torch.randn(2, 3)
    with torch.no_grad():
        round_matrices(model, Halves())
        expected = halves(x) @ halves(model[0].weight) + model[0].bias
        torch.testing.assert_close(model(x), expected)


class Scaled(nn.Embedding):
    """As Gemma's."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * 1.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "scale", "seen"), [(nn.Embedding, 1.0, 2), (Scaled, 1.5, 9)])
def test_embedding(kind: Any, scale: float, seen: int, dtype: torch.dtype) -> None:
    model = nn.Sequential(kind(9, 4)).to(dtype)
    stored = model[0].weight.detach().clone()
    ids, rounding = torch.tensor([[3, 8, 3]]), Halves()
    with torch.no_grad():
        round_matrices(compute_in_float32(model), rounding)
        for _ in range(2):
            torch.testing.assert_close(model(ids), halves(stored.float())[ids] * scale)
    assert rounding.rows == {"0.weight": 2 * seen}
    assert torch.equal(model[0].weight, stored)


def test_attention() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager").eval()
    seen: list[Tensor] = []

    class Watched(Halves):
        def queries(self, query: Tensor, value_dim: int) -> Tensor:
            seen.append(query)
            return super().queries(query, value_dim)

        def attention(self, weights: Tensor, key_dim: int, value_dim: int) -> Tensor:
            assert (key_dim, value_dim) == (8, 8)
            return super().attention(weights, key_dim, value_dim)

    ids = torch.arange(5)[None]
    with torch.no_grad():
        plain = model(ids).logits
        with rounded_attention(model, Watched()) as cache:
            rounded = model(ids, past_key_values=cache).logits
        assert torch.equal(model(ids).logits, plain)
    assert len(seen) == 1 and not torch.equal(rounded, plain)
    for states in (cache.layers[0].keys, cache.layers[0].values):
        assert torch.equal(states, halves(states))
