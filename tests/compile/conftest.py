"""A tiny trained-looking Llama and its artifact, made once a session and shared by many tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ingot.models.capture import CapturedModel

TINY_LLAMA: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 304,
    "max_position_embeddings": 128,
    # larger than the default, so that layers matter and the greedy token isn't a near tie
    "initializer_range": 0.3,
}
TOKENIZER_SIZE = 300

MakeCheckpoint = Callable[..., Path]


def write_checkpoint(folder: Path, model_type: str = "llama", **changes: Any) -> Path:
    """A random model with a byte-level tokenizer, as transformers saves one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from ingot.bench.checkpoint import train_tokenizer

    config = AutoConfig.for_model(model_type, **{**TINY_LLAMA, **changes})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    train_tokenizer(folder, size=TOKENIZER_SIZE)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Must not be changed: copy it to break it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny-llama")


@pytest.fixture(scope="session")
def captured_llama(tiny_llama: Path) -> CapturedModel:
    """`tiny_llama` exported, for tests that are not about the export."""
    import torch
    from transformers import AutoConfig

    from ingot.models.capture import capture

    config = AutoConfig.from_pretrained(tiny_llama)
    return capture(config, dtype=torch.float32, max_context_tokens=128)


@pytest.fixture(scope="session")
def compiled_llama(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The proven float32 artifact of `tiny_llama`, with its report."""
    from ingot.compile.api import compile_model

    out = tmp_path_factory.mktemp("compiled") / "tiny-llama-f32"
    return compile_model(str(tiny_llama), quant="f32", out=out)
