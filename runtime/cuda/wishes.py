"""Turns what rows ask for beside a token into arguments of graphs that keep their place, and what
the graphs find into log-probabilities.

All buckets share one buffer: what one step put there has been read when the next one begins. Lists
of tokens are as long as they are and bounded together, masks lie one after the other, and only what
a step fills is copied.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from ingot.runtime.cuda.buckets import BATCHES
from ingot.runtime.cuda.driver import (
    DEVICE_TO_DEVICE,
    DEVICE_TO_HOST,
    DeviceBuffer,
    Event,
    PinnedBuffer,
    Stream,
    copy_async,
)
from ingot.runtime.cuda.packed import DeviceView, PackedBuffer, lay_out
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sampling import NUM_RANKED_FIELDS, PenaltyInputs, Wishes, read_ranked

MAX_ROWS = BATCHES[-1]
# Tokens that penalties and biases list, of all rows together: 4,096 a row where there are 64. They
# take 4 MiB of the GPU and as much of the host's pinned memory.
MAX_LISTED = 1 << 18
LISTS = ("tokens", "output_counts", "seen", "bias")  # of `PenaltyInputs`, a value for each of them
LOGIT, FIELD = np.dtype(np.float32), np.dtype(np.float64)


class WishBuffers:
    """The arguments of `penalize`, `mask` and `logprobs` for as many rows as any bucket has. The
    last has logits as the model gave them, copied aside before they are changed."""

    def __init__(self, vocab_size: int) -> None:
        int32, float32 = np.dtype(np.int32), np.dtype(np.float32)
        self._num_words = -(-vocab_size // 32)
        # What each step sends, then the masks, then the lists.
        self._specs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            "num_top": ((MAX_ROWS,), int32),
            "mask_rows": ((MAX_ROWS,), int32),
            "row_offsets": ((MAX_ROWS + 1,), int32),
            "repetition": ((MAX_ROWS,), float32),
            "presence": ((MAX_ROWS,), float32),
            "frequency": ((MAX_ROWS,), float32),
            "bits": ((MAX_ROWS, self._num_words), int32),
            **{name: ((MAX_LISTED,), float32 if name == "bias" else int32) for name in LISTS},
        }
        specs = list(self._specs.values())
        starts, num_bytes = lay_out(specs)
        self._starts = dict(zip(self._specs, starts, strict=True))
        self._buffer = PackedBuffer(num_bytes)
        self._arrays = dict(zip(self._specs, self._buffer.arrays(specs), strict=True))
        self._is_read = Event(is_timed=False)
        self._vocab_size = vocab_size
        self._raw = DeviceBuffer(MAX_ROWS * vocab_size * LOGIT.itemsize)
        self._raw_views: dict[int, DeviceView] = {}
        self._found = PinnedBuffer(MAX_ROWS * NUM_RANKED_FIELDS * FIELD.itemsize)

    def penalties(self, num_rows: int) -> list[Any]:
        """The arguments of `penalize` for so many rows of logits, but for these."""
        return [self._tensor(field.name, num_rows) for field in fields(PenaltyInputs)]

    def masks(self, num_rows: int) -> list[Any]:
        return [self._tensor(name, num_rows) for name in ("mask_rows", "bits")]

    def num_top(self, num_rows: int) -> Any:
        return self._tensor("num_top", num_rows)

    def raw(self, num_rows: int) -> Any:
        if num_rows not in self._raw_views:
            shape = num_rows, self._vocab_size
            self._raw_views[num_rows] = DeviceView(self._raw.pointer, shape, LOGIT)
        return self._raw_views[num_rows].tensor

    def _tensor(self, name: str, num_rows: int) -> Any:
        """What has a value a row is as long as there are rows; the rest keeps its length."""
        shape, dtype = self._specs[name]
        if name not in ("bits", *LISTS):
            shape = (shape[0] - MAX_ROWS + num_rows,)
        return self._buffer.tensor(self._starts[name], shape, dtype)

    def fill(self, wishes: Wishes, stream: Stream) -> None:
        """Put the copy of what is asked for on the stream: one, and one more for lists. Rows that
        ask for nothing, and those that the step doesn't fill, change and find nothing."""
        self._is_read.wait()
        num_listed = self._list(wishes.penalties)
        self._arrays["num_top"][...] = -1
        if wishes.num_top is not None:
            self._arrays["num_top"][: len(wishes.num_top)] = wishes.num_top
        num_masks = self._mask(wishes)
        self._buffer.send(self._starts["bits"] + num_masks * self._num_words * 4, stream)
        if num_listed:
            first, second = (self._starts[name] for name in LISTS[:2])
            self._buffer.send_columns(first, second - first, num_listed * 4, len(LISTS), stream)
        self._is_read.record(stream)

    def _list(self, penalties: PenaltyInputs | None) -> int:
        """How many tokens are listed."""
        offsets = self._arrays["row_offsets"]
        if penalties is None:
            offsets[...] = 0
            return 0
        num_rows, num_listed = len(penalties.repetition), len(penalties.tokens)
        offsets[: num_rows + 1] = penalties.row_offsets
        offsets[num_rows + 1 :] = num_listed
        for name in LISTS:
            self._arrays[name][:num_listed] = getattr(penalties, name)
        for name in ("repetition", "presence", "frequency"):
            self._arrays[name][:num_rows] = getattr(penalties, name)
        return num_listed

    def _mask(self, wishes: Wishes) -> int:
        """How many masks there are; waits for them."""
        places = self._arrays["mask_rows"]
        if wishes.masks is None:
            places[...] = -1
            return 0
        masks = wishes.masks()
        num_masks = len(masks.rows)
        places[...] = masks.by_row(MAX_ROWS)
        self._arrays["bits"][:num_masks] = masks.bits[:, : self._num_words]
        return num_masks

    def keep(self, logits: Any, num_rows: int, stream: Stream) -> None:
        """Put the copy of so many rows of logits on the stream."""
        num_bytes = num_rows * self._vocab_size * LOGIT.itemsize
        copy_async(self._raw.pointer, logits.data_ptr(), num_bytes, DEVICE_TO_DEVICE, stream)

    def bring(self, found: Any, num_rows: int, stream: Stream) -> None:
        """Put the copy to the host of what `logprobs` found on the stream."""
        num_bytes = num_rows * NUM_RANKED_FIELDS * FIELD.itemsize
        copy_async(self._found.pointer, found.data_ptr(), num_bytes, DEVICE_TO_HOST, stream)

    def read(self, tokens: list[int], wishes: Wishes) -> list[TokenLogprob | None]:
        """The probabilities of these tokens, once what was brought is there."""
        found = self._found.array.view(FIELD).reshape(MAX_ROWS, NUM_RANKED_FIELDS)
        return read_ranked(found, tokens, wishes, self._vocab_size)
