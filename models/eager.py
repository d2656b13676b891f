"""Loads the plain transformers model of a checkpoint: what compiled models are measured against."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ingot.models.resolve import ModelSource
from ingot.models.rope import freeze_rope

# falcon's eager attention adds ALiBi twice (once in the mask, once in the scores); its default,
# sdpa, adds it once, as the model was trained.
_NOT_EAGER = {"falcon": "sdpa"}


def reference_attention(model_type: str) -> str:
    """The attention implementation of transformers that is right for this family."""
    return _NOT_EAGER.get(model_type, "eager")


def load_eager(
    source: ModelSource, dtype: torch.dtype, *, max_context_tokens: int | None = None
) -> Any:
    """The model with its weights, for inference. Needs memory for all of them.

    With `max_context_tokens`, RoPE that depends on the batch is fixed for that context, as it is in
    an artifact: without, longrope models answer short prompts with other frequencies than long.
    """
    from transformers import AutoModelForCausalLM

    config = source.config
    with _no_progress_bars():
        model = AutoModelForCausalLM.from_pretrained(
            source.path,
            config=config,
            dtype=dtype,
            attn_implementation=reference_attention(config.model_type),
            trust_remote_code=source.trust_remote_code,
            use_safetensors=None if source.allow_pickle else True,
            local_files_only=True,
        )
    model.requires_grad_(False)
    if max_context_tokens is not None:
        freeze_rope(model, max_context_tokens)
    return model.eval()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """The caller shows progress in its own way; transformers' bars would write over it."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
