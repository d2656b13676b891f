"""Attends where gptj, codegen, gpt_neo and gpt_neox_japanese do: in `_attn(q, k, v, mask)`."""

from typing import Any

from torch import Tensor, nn

from ingot.models.adapters.replace import replace_method
from ingot.models.attention import attention_interface
from ingot.models.masks import MaskSpec

_CLASSES = {
    "codegen": "CodeGenAttention",
    "gpt_neo": "GPTNeoSelfAttention",
    "gpt_neox_japanese": "GPTNeoXJapaneseAttention",
    "gptj": "GPTJAttention",
}

_DIVISORS = ("scale_attn", "norm_factor")  # of the scores, by their names; gpt_neo has none


def adapt(model: nn.Module) -> None:
    config: Any = model.config
    replace_method(model, _CLASSES[config.model_type], "_attn", _attn)


def _attn(
    self: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: MaskSpec
) -> tuple[Tensor, None]:
    divisor = next((getattr(self, name) for name in _DIVISORS if hasattr(self, name)), 1.0)
    mask = attention_mask
    if getattr(self, "attention_type", "") == "local":  # gpt_neo: a window inside the module
        mask = MaskSpec(causal=mask.causal, window=self.config.window_size)
    # q and k come in float32 where RoPE's table is; the cache holds the model's dtype.
    out, _weights = attention_interface(
        self, query.to(value.dtype), key.to(value.dtype), value, mask, scaling=1.0 / divisor
    )
    return out.transpose(1, 2), None  # the caller merges [1, H, n, D]
