"""bloom computes ALiBi attention inside BloomAttention.forward, without the attention interface."""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from ingot.models.adapters.replace import replace_method, set_slopes
from ingot.models.attention import attention_interface
from ingot.models.masks import MaskSpec


def adapt(model: nn.Module) -> None:
    modules = replace_method(model, "BloomAttention", "forward", _forward)
    build = sys.modules[type(model).__module__].build_alibi_tensor
    heads = modules[0].num_heads
    alibi = build(torch.ones(1, 2, dtype=torch.int64), heads, torch.float32)
    set_slopes(modules, alibi[:, 0, 1])  # [heads, 1, positions]; position 0 has none


def _forward(
    self: Any,
    hidden_states: Tensor,
    residual: Tensor,
    alibi: Tensor,
    attention_mask: MaskSpec,
    **_: object,
) -> tuple[Tensor, None]:
    q, k, v = self._reshape(self.query_key_value(hidden_states))
    out, _weights = attention_interface(
        self, q, k, v, attention_mask, scaling=self.inv_norm_factor, slopes=self.ingot_slopes
    )
    return self.dense(out.reshape(hidden_states.shape)) + residual, None
