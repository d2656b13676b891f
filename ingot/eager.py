"""The uncompiled model of an artifact to its text, which compiled text is held against."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GenerationConfig

from ingot.models.eager import load_eager
from ingot.models.resolve import ModelSource
from ingot.runtime.artifact import read_manifest
from ingot.runtime.tokenizer import Tokenizer


def complete_eagerly(
    artifact: Path, source: ModelSource, prompt: str, max_tokens: int | None = None
) -> str:
    """Continue `prompt` greedily in float32 with the `transformers` model that `artifact` is of.

    The tokenizer, the context and the end tokens are the artifact's: only the model differs.
    """
    manifest = read_manifest(artifact)
    context = manifest.step.max_context_tokens
    tokenizer = Tokenizer(artifact, manifest.model.config)
    prompt_ids = tokenizer.encode(prompt)
    model = load_eager(source, torch.float32, max_context_tokens=context)
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=min(max_tokens or context, context - len(prompt_ids)),
        eos_token_id=sorted(tokenizer.end_token_ids) or None,
        pad_token_id=0,
    )
    with torch.inference_mode():
        (token_ids,) = model.generate(torch.tensor([prompt_ids]), generation_config=settings)
    output_ids = [int(token) for token in token_ids[len(prompt_ids) :]]
    if output_ids and output_ids[-1] in tokenizer.end_token_ids:
        output_ids.pop()
    return tokenizer.decode(output_ids)
