"""Fixes the RoPE frequencies that a model would choose from whatever else is in its batch.

longrope and dynamic NTK pick frequencies by the largest position of the batch, so a sequence's
output would depend on its neighbours, and cached keys would no longer fit. They are chosen once,
for the longest context that the artifact serves.
"""

from typing import Any

from torch import nn


def freeze_rope(model: nn.Module, max_context_tokens: int) -> int:
    """Make every such rotary module an ordinary one, in place. Returns how many there were."""
    return sum(_freeze(module, max_context_tokens) for module in model.modules())


def _freeze(module: Any, max_context_tokens: int) -> int:
    rope_type = getattr(module, "rope_type", None)
    if isinstance(rope_type, str):
        if not _depends_on_batch(rope_type):
            return 0
        _set_frequencies(module, rope_type, None, "", max_context_tokens)
        module.rope_type = "default"
        return 1
    if isinstance(rope_type, dict):  # one kind of RoPE for each kind of layer
        moving = {layer: kind for layer, kind in rope_type.items() if _depends_on_batch(kind)}
        for layer, kind in moving.items():
            _set_frequencies(module, kind, layer, f"{layer}_", max_context_tokens)
        if moving:
            module.rope_type = rope_type | dict.fromkeys(moving, "default")
        return len(moving)
    return 0


def _depends_on_batch(rope_type: str) -> bool:
    return rope_type == "longrope" or "dynamic" in rope_type


def _set_frequencies(
    module: Any, rope_type: str, layer_type: str | None, prefix: str, max_context_tokens: int
) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config, old = module.config, getattr(module, f"{prefix}inv_freq")
    inv_freq, scaling = ROPE_INIT_FUNCTIONS[rope_type](
        config, old.device, seq_len=max_context_tokens, layer_type=layer_type
    )
    module.register_buffer(f"{prefix}inv_freq", inv_freq, persistent=False)
    setattr(module, f"{prefix}attention_scaling", scaling)
