"""What the attention interface refuses, and how it numbers and widens KV slots."""

import pytest
import torch
from torch import Tensor, nn

from ingot.errors import UnsupportedModelError
from ingot.models.attention import Recorder, attention_interface, recording
from ingot.models.masks import MaskSpec


class Layer(nn.Module):
    is_causal = True


LAYER = Layer()


def heads(tokens: int = 3, count: int = 2) -> Tensor:
    return torch.randn(1, count, tokens, 4)


def recorder() -> Recorder:
    return Recorder({id(LAYER): "model.layers.0.self_attn"})


@pytest.mark.parametrize(
    ("options", "construct"),
    [
        ({"position_bias": torch.zeros(1)}, "attention argument `position_bias`"),
        ({"attention_mask": torch.zeros(1, 1, 3, 3)}, "attention mask given as a tensor"),
        ({"attention_mask": MaskSpec()}, "bidirectional attention"),
        ({"is_causal": False}, "bidirectional attention"),
    ],
)
def test_refused(options: dict[str, object], construct: str) -> None:
    with recording(recorder()), pytest.raises(UnsupportedModelError) as raised:
        attention_interface(LAYER, heads(), heads(), heads(), **options)  # type: ignore[arg-type]
    assert construct in raised.value.message
    assert "`model.layers.0.self_attn`" in raised.value.message


def test_keys_of_other_tokens_are_refused() -> None:
    with recording(recorder()), pytest.raises(UnsupportedModelError, match="over 5 keys"):
        attention_interface(LAYER, heads(3), heads(5), heads(5))


def test_slots_in_call_order_and_shared_ones() -> None:
    noted = recorder()
    k, v = heads(), heads()
    with recording(noted):
        attention_interface(LAYER, heads(), k, v, MaskSpec(True, window=4))
        attention_interface(LAYER, heads(), heads(count=1), heads(count=1), MaskSpec(True))
        attention_interface(LAYER, heads(), k, v, MaskSpec(True, window=9))
    assert [(s.kv_heads, s.window) for s in noted.kv_slots] == [(2, 9), (1, 0)]
    with recording(noted):
        attention_interface(LAYER, heads(), k, v, MaskSpec(True))
    assert noted.kv_slots[0].window == 0


def test_sinks_reach_the_operator() -> None:
    q, k, v = heads(), heads(), heads()
    with recording(recorder()):
        plain, _ = attention_interface(LAYER, q, k, v)
        drained, _ = attention_interface(LAYER, q, k, v, s_aux=torch.full((2,), 50.0))
    assert plain.abs().max() > 0.1
    assert drained.abs().max() < 1e-6
