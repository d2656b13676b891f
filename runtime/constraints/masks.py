"""Turns the matchers of a step into bit masks while the step runs, and bit masks into logits."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.constraints.matcher import Bits, Matcher, import_llguidance

# What a token that may not come gets for a logit. Below every allowed one, an end token that
# `min_tokens` forbids included: where nothing but the end may come, the output ends.
MASKED = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class MaskRequest:
    """A row of logits after each of `drafts`, and the one before them: `1 + len(drafts)` rows from
    `first_row`. The drafts are tokens that the matcher allows."""

    matcher: Matcher
    first_row: int
    drafts: Sequence[int] = ()

    @property
    def rows(self) -> range:
        return range(self.first_row, self.first_row + 1 + len(self.drafts))


@dataclass(frozen=True, slots=True)
class Masks:
    """Bits of all tokens that may come, for some rows of the logits."""

    rows: tuple[int, ...]
    bits: Bits  # [len(rows), words], which may be more words than the model has tokens for

    def by_row(self, num_rows: int) -> NDArray[np.int32]:
        """Where each row's bits are, -1 for a row without a mask."""
        places = np.full(num_rows, -1, np.int32)
        places[list(self.rows)] = np.arange(len(self.rows))
        return places


class MaskMaker:
    """Computes masks in a thread of its own; llguidance holds no GIL while it computes."""

    def __init__(self, num_words: int, num_threads: int = 1) -> None:
        self._num_words = num_words
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ingot-masks")
        self._backend = import_llguidance().LLExecutor(num_threads=num_threads)
        self._buffer: Bits = np.empty((0, num_words), np.int32)

    def start(self, requests: Sequence[MaskRequest]) -> Future[Masks]:
        """Begin; the result is valid until the next call. The matchers must be left alone."""
        return self._thread.submit(self._compute, tuple(requests))

    def _compute(self, requests: tuple[MaskRequest, ...]) -> Masks:
        rows = tuple(row for request in requests for row in request.rows)
        if len(rows) > len(self._buffer):
            self._buffer = np.empty((2 * len(rows), self._num_words), np.int32)
        bits = self._buffer[: len(rows)]
        place = 0
        plain: list[Any] = []
        drafted: list[Any] = []
        for request in requests:
            if request.drafts:
                drafted.append((request.matcher.backend, place, list(request.drafts)))
            else:
                plain.append((request.matcher.backend, place))
            place += len(request.rows)
        place_args = (bits.ctypes.data, bits.itemsize * self._num_words, len(rows))
        if plain:
            self._backend.unsafe_compute_mask_ptr(plain, *place_args)
        if drafted:
            self._backend.unsafe_compute_mask_ptr_with_draft_token(drafted, *place_args)
        return Masks(rows, bits)

    def close(self) -> None:
        self._thread.shutdown()


def mask_logits(logits: NDArray[np.float32], masks: Masks) -> None:
    """Give every token that may not come the lowest logit, in place."""
    vocab_size = logits.shape[1]
    for row, bits in zip(masks.rows, masks.bits, strict=True):
        np.copyto(logits[row], MASKED, where=~allowed_tokens(bits, vocab_size))


def allowed_tokens(bits: Bits, vocab_size: int) -> NDArray[np.bool_]:
    """The bits of one row as booleans."""
    return np.unpackbits(bits.view(np.uint8), count=vocab_size, bitorder="little").view(np.bool_)
