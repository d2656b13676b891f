"""Turns steps of many shapes into the few that graphs are captured for, and their arrays into
arguments that keep their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.cuda.driver import Event, Stream
from ingot.runtime.cuda.packed import PackedBuffer, lay_out
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.step_inputs import StepInputs

# Kernels choose their tiles by ranges of rows that end at 8, 16 and 64: no bucket reaches into the
# next range, so that a graph's sums run in the order of the step without it.
BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
LEAST_PAGES = 8  # of the narrowest page table; the others are twice as wide, one after the other

# What stands in the rows that a step doesn't fill: they write no K and V (their slot is -1) and
# read the first positions of page 0. Nobody looks at their tokens.
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
    """The shapes that a graph is captured for: `num_each` tokens of each sequence, more than one
    where tokens were proposed."""

    num_sequences: int
    num_pages: int
    num_each: int = 1

    @property
    def num_rows(self) -> int:
        """Tokens, each of which has a row of logits."""
        return self.num_sequences * self.num_each

    @property
    def dimensions(self) -> dict[str, int]:
        """As of `StepInputs`."""
        rows = self.num_rows
        return {"n": rows, "b": self.num_sequences, "p": self.num_pages, "m": rows}


def bucket_for(inputs: StepInputs) -> Bucket | None:
    """The smallest bucket that holds a step; None for one that reads a part of a prompt, wants
    several tokens after one, or is larger than any."""
    num_tokens, num_sequences = len(inputs.token_ids), len(inputs.context_lengths)
    if num_sequences > BATCHES[-1] or len(inputs.logit_rows) > num_tokens:
        return None
    num_each = 1
    if num_tokens > num_sequences:
        if not np.array_equal(inputs.logit_rows, np.arange(num_tokens)):
            return None
        num_each = _power_of_two(int(np.diff(inputs.query_offsets).max()))
        if inputs.context_lengths.min() < num_each:
            return None  # there is nothing before its tokens that could stand in
    num_pages = _power_of_two(max(LEAST_PAGES, inputs.page_table.shape[1]))
    bucket = Bucket(fitting_batch(num_sequences), num_pages, num_each)
    return bucket if bucket.num_rows <= BATCHES[-1] else None


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


class Spread(NamedTuple):
    """A step of proposed tokens with as many tokens of each sequence. `places` are those of the
    step's own among them; those before a sequence's own write nothing, and read what it has."""

    inputs: StepInputs
    sampling: SamplingInputs
    places: NDArray[np.int64]


def spread(inputs: StepInputs, sampling: SamplingInputs, num_each: int) -> Spread:
    counts = np.diff(inputs.query_offsets)
    num_sequences = len(counts)
    ends = np.arange(1, num_sequences + 1) * num_each
    places = np.arange(len(inputs.token_ids)) + np.repeat(ends - inputs.query_offsets[1:], counts)

    def widened(record: StepInputs | SamplingInputs, name: str) -> NDArray[Any]:
        array = np.full(num_sequences * num_each, PADDING[name])
        array[places] = getattr(record, name)
        return array

    return Spread(
        StepInputs(
            token_ids=widened(inputs, "token_ids"),
            positions=widened(inputs, "positions"),
            slots=widened(inputs, "slots"),
            page_table=inputs.page_table,
            query_offsets=np.append(0, ends).astype(np.int32),
            context_lengths=inputs.context_lengths,
            logit_rows=np.arange(num_sequences * num_each, dtype=np.int32),
        ),
        SamplingInputs(*(widened(sampling, field.name) for field in fields(SamplingInputs))),
        places,
    )


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
        self._padding = {**PADDING, "context_lengths": np.int32(bucket.num_each)}
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
                # As many tokens of each sequence, whatever the step: never changed.
                ends = np.arange(bucket.num_sequences + 1) * bucket.num_each
                arrays["query_offsets"][...] = ends

    def fill(self, record: StepInputs | SamplingInputs | None, stream: Stream) -> None:
        """Put the copy of a step's arguments on the stream, or of padding alone."""
        turn = self._turn = (self._turn + 1) % len(self._turns)
        self._are_read[turn].wait()
        for name, padded in self._turns[turn].items():
            if name == "query_offsets":
                continue
            array = None if record is None else getattr(record, name)
            if array is not None and array.shape == padded.shape:
                padded[...] = array
                continue
            padded[...] = self._padding[name]
            if array is not None:
                padded[tuple(map(slice, array.shape))] = array
        self._buffer.send(self._num_bytes, stream, turn)
        self._are_read[turn].record(stream)


def _shape(name: str, bucket: Bucket) -> tuple[int, ...]:
    num_sequences, num_pages, _ = bucket
    shapes = {
        "page_table": (num_sequences, num_pages),
        "query_offsets": (num_sequences + 1,),
        "context_lengths": (num_sequences,),
    }
    return shapes.get(name, (bucket.num_rows,))


def buckets_up_to(num_sequences: int, num_each: int = 1) -> Iterator[Bucket]:
    """Those that steps of at most so many sequences, and tokens of each, begin with, while their
    contexts are short."""
    for size in BATCHES:
        if not num_sequences or size > fitting_batch(num_sequences):
            return
        each = 1
        while each < 2 * num_each and size * each <= BATCHES[-1]:
            yield Bucket(size, LEAST_PAGES, each)
            each *= 2
