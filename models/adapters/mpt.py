"""mpt computes ALiBi attention inside MptAttention.forward, without the attention interface."""

import sys
from typing import Any

from torch import Tensor, nn

from ingot.models.adapters.replace import replace_method, set_slopes
from ingot.models.attention import attention_interface
from ingot.models.masks import MaskSpec


def adapt(model: nn.Module) -> None:
    modules = replace_method(model, "MptAttention", "forward", _forward)
    # MptModel.forward leaves alibi_bias_max at its default, whatever the config says.
    build = sys.modules[type(model).__module__].build_mpt_alibi_tensor
    alibi = build(modules[0].n_heads, 2)  # [heads, 1, positions] at distances -1 and 0
    set_slopes(modules, alibi[:, 0, 1] - alibi[:, 0, 0])


def _forward(
    self: Any,
    hidden_states: Tensor,
    position_bias: Tensor,
    past_key_values: None = None,
    attention_mask: MaskSpec | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    batch, tokens, _width = hidden_states.shape
    qkv = self.Wqkv(hidden_states)
    if self.clip_qkv:
        qkv = qkv.clamp(min=-self.clip_qkv, max=self.clip_qkv)
    q, k, v = (
        part.reshape(batch, tokens, self.n_heads, self.head_dim).transpose(1, 2)
        for part in qkv.chunk(3, dim=2)
    )
    out, _weights = attention_interface(
        self, q, k, v, attention_mask, scaling=self.softmax_scale, slopes=self.ingot_slopes
    )
    return self.out_proj(out.reshape(batch, tokens, self.hidden_size)), None
