"""Prompts and tiny checkpoints for the tests of ingot.models."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny_models import create_tiny_model, find_family


@pytest.fixture
def two_prompts() -> tuple[Tensor, Tensor]:
    """Longer than the tiny windows; lengths are prime."""
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randint(3, 128, (n,), generator=generator) for n in (23, 11))
    return first, second


@pytest.fixture
def llama_folder(tmp_path: Path) -> Path:
    """A tiny llama checkpoint, as transformers saves one."""
    folder = tmp_path / "tiny-llama"
    create_tiny_model(find_family("llama")).save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer_json(tmp_path: Path) -> Path:
    """A word-level tokenizer of four tokens."""
    file = tmp_path / "tokenizer.json"
    vocabulary = {"a": 0, "b": 1, "c": 2, "[UNK]": 3}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    file.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    return file
