"""falcon computes attention inside FalconAttention.forward, in three layouts, with RoPE or ALiBi.

The new decoder architecture copies each key head to all of its query heads before it caches them;
here the copies are left out, so that the cache holds each key once.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from ingot.models.adapters.replace import replace_method, set_slopes
from ingot.models.attention import attention_interface
from ingot.models.masks import MaskSpec


def adapt(model: nn.Module) -> None:
    modules = replace_method(model, "FalconAttention", "forward", _forward)
    replace_method(model, "FalconLinear", "forward", _linear)
    first: Any = modules[0]
    if first.config.alibi:
        build = sys.modules[type(model).__module__].build_alibi_tensor
        alibi = build(torch.ones(1, 2, dtype=torch.int64), first.num_heads, torch.float32)
        # [heads, 1, positions]; added to the scores before they are scaled.
        set_slopes(modules, alibi[:, 0, 1] * first.inv_norm_factor)


def _split(self: Any, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fused projection [1, n, ...] -> q, k, v [1, n, heads, D], with as many k heads as differ.

    In all three layouts each key head comes after the queries of its group: one group a head, one
    group of all heads (multi-query), or `num_kv_heads` groups.
    """
    groups = self.num_kv_heads
    queries = self.num_heads // groups
    grouped: Any = qkv.view(*qkv.shape[:2], groups, queries + 2, self.head_dim)
    q, k, v = grouped.split([queries, 1, 1], dim=3)
    return q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3)


def _linear(self: Any, input: Tensor) -> Tensor:
    """FalconLinear as one operator; its own code transposes the weight first."""
    return nn.functional.linear(input, self.weight, self.bias)


def _forward(
    self: Any,
    hidden_states: Tensor,
    alibi: Tensor | None,
    attention_mask: MaskSpec,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    q, k, v = (x.transpose(1, 2) for x in _split(self, self.query_key_value(hidden_states)))
    slopes = None
    if alibi is None:
        assert position_embeddings is not None
        rotate = sys.modules[type(self).__module__].apply_rotary_pos_emb
        q, k = rotate(q, k, *position_embeddings)
    else:
        slopes = self.ingot_slopes
    out, _weights = attention_interface(
        self, q, k, v, attention_mask, scaling=self.inv_norm_factor, slopes=slopes
    )
    return self.dense(out.reshape(*hidden_states.shape[:2], self.hidden_size)), None
