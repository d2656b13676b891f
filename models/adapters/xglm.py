"""xglm computes attention inside XGLMAttention.forward, without the attention interface."""

from typing import Any

from torch import Tensor, nn

from ingot.models.adapters.replace import replace_method
from ingot.models.attention import attention_interface
from ingot.models.masks import MaskSpec


def adapt(model: nn.Module) -> None:
    replace_method(model, "XGLMAttention", "forward", _forward)


def _forward(
    self: Any, hidden_states: Tensor, attention_mask: MaskSpec, **_: object
) -> tuple[Tensor, None]:
    heads = (*hidden_states.shape[:2], self.num_heads, self.head_dim)
    q, k, v = (
        project(hidden_states).view(heads).transpose(1, 2)
        for project in (self.q_proj, self.k_proj, self.v_proj)
    )
    out, _weights = attention_interface(self, q, k, v, attention_mask, scaling=self.scaling)
    return self.out_proj(out.reshape(hidden_states.shape)), None
