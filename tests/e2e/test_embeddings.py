"""Embeddings are what `transformers`' base model gives as `last_hidden_state`, pooled: in float32,
for families with and without something between it and the logits, and on an emulated GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ingot import Engine
from ingot.compile.api import compile_model
from ingot.runtime.request_options import PoolingKind
from tests.compile.conftest import write_checkpoint as write_llama
from tests.e2e.test_families import write_checkpoint
from tests.emulated_gpu.emulator import build_driver, environment
from tests.tiny_models import find_family
from tests.tolerances import assert_close

ROOT = Path(__file__).resolve().parents[2]
LENGTHS = (1, 5, 16, 17, 31)  # around a page of 16 tokens, most longer than a step of 12
# Logits that are scaled (cohere) or capped (gemma2); rows gathered before the head by a hook (mpt).
NAMES = ("llama", "gemma2", "cohere", "mpt")


def expected(checkpoint: Path, prompts: list[list[int]]) -> dict[PoolingKind, np.ndarray]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        hidden = [
            model.base_model(input_ids=torch.tensor([prompt])).last_hidden_state[0].numpy()
            for prompt in prompts
        ]
    return {
        "last": np.stack([states[-1] for states in hidden]),
        "mean": np.stack([states.mean(0) for states in hidden]),
    }


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_the_last_hidden_states(name: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(find_family(name), tmp_path / "checkpoint")
    result = compile_model(str(checkpoint), quant="f32", out=tmp_path / "artifact", prove=False)
    vocab_size = result.manifest.step.vocab_size
    random = np.random.default_rng(0)
    prompts = [random.integers(0, vocab_size, length).tolist() for length in LENGTHS]
    with Engine(result.path, max_sequences=4, max_step_tokens=12, num_threads=1) as engine:
        for pooling, want in expected(checkpoint, prompts).items():
            got = engine.embed(prompts, pooling=pooling, normalize=False)
            assert_close(got, want, "captured", scale=float(np.abs(want).max()))
            unit = engine.embed(prompts[1], pooling=pooling)[0]
            assert_close(unit, want[1] / np.linalg.norm(want[1]), "captured")


def test_embeddings_on_an_emulated_gpu(tmp_path: Path) -> None:
    checkpoint = write_llama(tmp_path / "checkpoint")
    done = subprocess.run(
        [sys.executable, "-m", "tests.emulated_gpu.embed", checkpoint, "f32", tmp_path / "out"],
        env=environment(build_driver(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    for pooling, want in expected(checkpoint, result["prompts"]).items():
        got = np.array(result["vectors"][pooling])
        assert_close(got, want, "captured", scale=float(np.abs(want).max()))
