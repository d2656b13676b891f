"""Every family of `ingot.models.families`, from a checkpoint to a proven artifact in float32.

The proof holds logits, every layer and greedy text against eager, in prefill and token by token;
its bounds are in `ingot.compile.proof.bounds`. With `--update-golden` the figures are written to
`docs/models.md`, so that the page shows what these tests showed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from ingot.compile.api import CompileResult, compile_model
from ingot.models.families import FAMILIES, Family
from tests.e2e.models_page import PAGE, ModelsPage, Row
from tests.tiny_models import create_tiny_model


def write_checkpoint(family: Family, folder: Path) -> Path:
    """A tiny model with random weights and a tokenizer with a word for each id."""
    model = create_tiny_model(family)
    model.save_pretrained(folder)
    vocabulary = {f"w{i}": i for i in range(model.config.vocab_size)}
    Tokenizer(models.WordLevel(vocabulary, unk_token="w0")).save(str(folder / "tokenizer.json"))
    return folder


def compile_family(family: Family, folder: Path) -> CompileResult:
    checkpoint = write_checkpoint(family, folder / "checkpoint")
    return compile_model(str(checkpoint), quant="f32", out=folder / "artifact")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_family_is_proven(family: Family, tmp_path: Path, models_page: ModelsPage) -> None:
    result = compile_family(family, tmp_path)
    figures = result.manifest.proof.figures
    assert result.manifest.proof.status == "proven"
    assert figures["greedy"]["equal"] == figures["greedy"]["tokens"]
    models_page.add(Row.of(family, result))


def test_the_page_lists_the_families() -> None:
    """docs/models.md has a row for each family with the features that are tested now."""
    lines = PAGE.read_text("utf-8").splitlines()
    shown = [line.split(" | ")[:2] for line in lines if line.startswith("| ")][2:]
    assert shown == [[f"| {family.name}", ", ".join(family.features)] for family in FAMILIES]
