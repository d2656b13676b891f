"""Embeddings are what `transformers`' base model gives as `last_hidden_state`, pooled: in float32,
for families with and without something between it and the logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ingot import Engine
from ingot.compile.api import compile_model
from ingot.runtime.pooling import PoolingKind
from tests.e2e.test_families import write_checkpoint
from tests.tiny_models import find_family
from tests.tolerances import assert_close

LENGTHS = (1, 5, 16, 17, 31)  # around a page of 16 tokens, most longer than a step of 12
# Logits that are scaled (cohere) or capped (gemma2); rows gathered before the head by a hook (mpt).
NAMES = ("llama", "gemma2", "cohere", "mpt")


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_the_last_hidden_states(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    checkpoint = write_checkpoint(find_family(name), tmp_path / "checkpoint")
    result = compile_model(str(checkpoint), quant="f32", out=tmp_path / "artifact", prove=False)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    random = np.random.default_rng(0)
    prompts = [random.integers(0, model.config.vocab_size, n).tolist() for n in LENGTHS]
    with torch.no_grad():
        hidden = [
            model.base_model(input_ids=torch.tensor([prompt])).last_hidden_state[0].numpy()
            for prompt in prompts
        ]
    wanted: dict[PoolingKind, np.ndarray] = {
        "last": np.stack([states[-1] for states in hidden]),
        "mean": np.stack([states.mean(0) for states in hidden]),
    }
    with Engine(result.path, max_sequences=4, max_step_tokens=12, num_threads=1) as engine:
        for pooling, want in wanted.items():
            got = engine.embed(prompts, pooling=pooling, normalize=False)
            assert_close(got, want, "captured", scale=float(np.abs(want).max()))
            unit = engine.embed(prompts[1], pooling=pooling)[0]
            assert_close(unit, want[1] / np.linalg.norm(want[1]), "captured")
