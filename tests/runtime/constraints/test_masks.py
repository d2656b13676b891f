"""Bits to logits, and the masks of several places of one output at once."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from ingot.runtime.constraints import Regex
from ingot.runtime.constraints.masks import (
    MASKED,
    MaskMaker,
    MaskRequest,
    Masks,
    allowed_tokens,
    mask_logits,
)
from ingot.runtime.constraints.matcher import GrammarCompiler

TOKENIZER = Path(__file__).parents[3] / "models" / "demo" / "tokenizer.json"


@pytest.mark.parametrize("vocab_size", [31, 32, 33, 61])
def test_mask_logits(vocab_size: int) -> None:
    logits = np.ones((3, vocab_size), np.float32)
    bits = np.zeros((2, 2), np.int32)
    bits[0, 0] = 0b101
    bits[1] = -1
    mask_logits(logits, Masks((2, 0), bits))
    assert (logits[:2] == 1).all()
    assert np.flatnonzero(logits[2] == 1).tolist() == [0, 2]
    assert logits[2, 1] == MASKED and np.isfinite(logits).all()


def test_drafts_have_the_masks_of_their_places() -> None:
    """In one call with another output, and the matcher stays where it was."""
    compiler = GrammarCompiler(TOKENIZER.read_text(), 2048, [0])
    drafts = Tokenizer.from_file(str(TOKENIZER)).encode("123-4").ids
    first, other = compiler.compile(Regex(r"[0-9]{3}-[0-9]{2}")), compiler.compile(Regex("b*"))
    assert first.count_allowed([*drafts, 5]) == len(drafts)
    maker = MaskMaker(compiler.num_words)
    requests = [MaskRequest(other, 3), MaskRequest(first, 5, drafts)]
    masks = maker.start(requests).result()
    assert masks.rows == (3, *range(5, 6 + len(drafts)))
    found = [allowed_tokens(row, 2048).copy() for row in masks.bits]
    assert found[0][0], "b* may end at once"
    for draft, allowed in zip([*drafts, None], found[1:], strict=True):
        alone = maker.start([MaskRequest(first, 0)]).result().bits[0]
        np.testing.assert_array_equal(allowed, allowed_tokens(alone, 2048))
        if draft is not None:
            assert allowed[draft]
            first.advance(draft)
    maker.close()


def test_places_of_masks() -> None:
    masks = Masks((2, 0), np.zeros((2, 1), np.int32))
    assert masks.by_row(4).tolist() == [1, -1, 0, -1]
