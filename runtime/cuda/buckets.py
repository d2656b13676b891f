"""Turns steps of many shapes into the few that graphs are captured for, and their arrays into
arguments that keep their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from ingot.runtime.cuda.driver import Event, Stream
from ingot.runtime.cuda.packed import PackedBuffer, lay_out
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.step_inputs import StepInputs

# Kernels choose their tiles by ranges of rows that end at 8, 16 and 64: no bucket reaches into the
# next range, so that a graph's sums run in the order of the step without it.
BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
LEAST_PAGES = 8  # of the narrowest page table; the others are twice as wide, one after the other

# What stands in the rows that a step doesn't fill: they write no K and V (their slot is -1) and
# read one position of page 0. Nobody looks at their tokens.
PADDING: dict[str, np.generic] = {
    "token_ids": np.int32(0),
    "positions": np.int32(0),
    "slots": np.int32(-1),
    "page_table": np.int32(0),
    "query_offsets": np.int32(0),
    "context_lengths": np.int32(1),
    "logit_rows": np.int32(0),
    "temperature": np.float32(0),
    "top_k": np.int32(0),
    "top_p": np.float32(1),
    "min_p": np.float32(0),
    "uniform": np.float32(0),
}


class Bucket(NamedTuple):
    """The shapes that a graph is captured for."""

    num_rows: int
    num_pages: int


def bucket_for(inputs: StepInputs) -> Bucket | None:
    """The smallest bucket that holds a step; None for one that reads several tokens of a sequence,
    wants several tokens after one, or is larger than any."""
    num_rows = len(inputs.token_ids)
    if num_rows != len(inputs.context_lengths) or len(inputs.logit_rows) > num_rows:
        return None
    if num_rows > BATCHES[-1]:
        return None
    widest = max(LEAST_PAGES, inputs.page_table.shape[1])
    return Bucket(fitting_batch(num_rows), 1 << (widest - 1).bit_length())


def fitting_batch(num_rows: int) -> int:
    """The smallest batch that holds so many rows, the largest of all where none does."""
    return next((size for size in BATCHES if size >= num_rows), BATCHES[-1])


class BucketArguments:
    """The arguments of one function, `record` being their names and order, for one bucket.

    Before the first `fill` all rows are padding, and none of it is on the device. The host has the
    arrays `num_turns` times, so that the next ones are written while the last are on their way.
    """

    def __init__(
        self,
        bucket: Bucket,
        record: type[StepInputs] | type[SamplingInputs],
        num_turns: int = 1,
    ) -> None:
        names = [field.name for field in fields(record)]
        specs = [(_shape(name, bucket), PADDING[name].dtype) for name in names]
        _, self._num_bytes = lay_out(specs)
        self._buffer = PackedBuffer(self._num_bytes, num_turns)
        self._are_read = [Event(is_timed=False) for _ in range(num_turns)]
        self._turn = 0
        self._turns = [
            dict(zip(names, self._buffer.arrays(specs, turn), strict=True))
            for turn in range(num_turns)
        ]
        self.tensors = dict(zip(names, self._buffer.tensors(specs), strict=True))
        for arrays in self._turns:
            if "query_offsets" in arrays:
                # One token a sequence, whatever the step: never changed.
                arrays["query_offsets"][...] = np.arange(bucket.num_rows + 1)

    def fill(self, record: StepInputs | SamplingInputs | None, stream: Stream) -> None:
        """Put the copy of a step's arguments on the stream, or of padding alone."""
        turn = self._turn = (self._turn + 1) % len(self._turns)
        self._are_read[turn].wait()
        for name, padded in self._turns[turn].items():
            if name == "query_offsets":
                continue
            padded[...] = PADDING[name]
            if record is not None:
                array = getattr(record, name)
                padded[tuple(map(slice, array.shape))] = array
        self._buffer.send(self._num_bytes, stream, turn)
        self._are_read[turn].record(stream)


def _shape(name: str, bucket: Bucket) -> tuple[int, ...]:
    if name == "page_table":
        return bucket
    return (bucket.num_rows + (name == "query_offsets"),)


def buckets_up_to(num_rows: int) -> Iterator[Bucket]:
    """Those that steps of at most so many rows begin with, while their contexts are short."""
    for size in BATCHES:
        if num_rows and size <= fitting_batch(num_rows):
            yield Bucket(size, LEAST_PAGES)
