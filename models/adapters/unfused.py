"""gptj, codegen and gpt_neo attend in a method `_attn(q, k, v, mask)` of their attention module."""

from typing import Any

from torch import Tensor, nn

from ingot.models.adapters.replace import replace_method
from ingot.models.attention import attention_interface
from ingot.models.masks import MaskSpec

_CLASSES = {
    "codegen": "CodeGenAttention",
    "gpt_neo": "GPTNeoSelfAttention",
    "gptj": "GPTJAttention",
}


def adapt(model: nn.Module) -> None:
    config: Any = model.config
    replace_method(model, _CLASSES[config.model_type], "_attn", _attn)


def _attn(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: MaskSpec
) -> tuple[Tensor, None]:
    scale = 1.0 / self.scale_attn if hasattr(self, "scale_attn") else 1.0  # gpt_neo does not scale
    mask = attention_mask
    if getattr(self, "attention_type", "") == "local":  # gpt_neo: a window inside the module
        mask = MaskSpec(causal=mask.causal, window=self.config.window_size)
    # q and k come in float32 where RoPE's table is; the cache holds the model's dtype.
    out, _weights = attention_interface(
        self, query.to(value.dtype), key.to(value.dtype), value, mask, scaling=scale
    )
    return out.transpose(1, 2), None  # the caller merges [1, H, n, D]
