"""Turns a step in which each sequence reads one token into one launch: from token ids to sampled
tokens, one copy in, one CUDA graph, one copy out.

A graph is captured for each bucket: so many rows, so wide a page table. Its arguments lie in
buffers that it keeps, and rows that a step doesn't fill write no K and V (their slot is -1) and
read one position of page 0; nobody looks at their tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.artifact.manifest import FunctionsRecord
from ingot.runtime.cuda.driver import (
    DEVICE_TO_HOST,
    Graph,
    PinnedBuffer,
    Stream,
    copy_async,
)
from ingot.runtime.cuda.packed import PackedBuffer, lay_out
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.step_inputs import StepInputs
from ingot.runtime.vm import VirtualMachine

# Kernels choose their tiles by ranges of rows that end at 8, 16 and 64: no bucket reaches into the
# next range, so that a graph's sums run in the order of the step without it.
BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
LEAST_PAGES = 8  # of the narrowest page table; the others are twice as wide, one after the other
# Each keeps its own activations, a few megabytes. Dropped: the one that was not used for longest.
MAX_GRAPHS = 32

# What stands in the rows that a step doesn't fill.
PADDING = {
    "token_ids": 0,
    "positions": 0,
    "slots": -1,
    "page_table": 0,
    "context_lengths": 1,
    "logit_rows": 0,
    "temperature": 0,
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "uniform": 0,
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
    fitting = [size for size in BATCHES if size >= num_rows]
    if not fitting:
        return None
    widest = max(LEAST_PAGES, inputs.page_table.shape[1])
    return Bucket(fitting[0], 1 << (widest - 1).bit_length())


def _arguments(inputs: StepInputs, sampling: SamplingInputs) -> Iterator[tuple[str, NDArray[Any]]]:
    """All arrays of a step with their names, in the order of the compiled functions."""
    for record in (inputs, sampling):
        for field in fields(record):
            yield field.name, getattr(record, field.name)


def _shape(name: str, bucket: Bucket) -> tuple[int, ...]:
    if name == "page_table":
        return bucket
    return (bucket.num_rows + (name == "query_offsets"),)


class BucketArguments:
    """A bucket's arguments, in a buffer of its own."""

    def __init__(self, bucket: Bucket, inputs: StepInputs, sampling: SamplingInputs) -> None:
        names = dict(_arguments(inputs, sampling))
        specs = [(_shape(name, bucket), array.dtype) for name, array in names.items()]
        _, self._num_bytes = lay_out(specs)
        self._buffer = PackedBuffer(self._num_bytes)
        self._arrays = dict(zip(names, self._buffer.arrays(specs), strict=True))
        # One token a sequence, whatever the step: never changed.
        self._arrays["query_offsets"][...] = np.arange(bucket.num_rows + 1)
        self.tensors = self._buffer.tensors(specs)

    def fill(self, inputs: StepInputs, sampling: SamplingInputs, stream: Stream) -> None:
        """Put the copy of a step's arguments on the stream. The last one must have been read."""
        for name, array in _arguments(inputs, sampling):
            if name == "query_offsets":
                continue
            padded = self._arrays[name]
            padded[...] = PADDING[name]
            padded[tuple(map(slice, array.shape))] = array
        self._buffer.send(self._num_bytes, stream)


@dataclass(frozen=True, slots=True)
class _Decode:
    """A captured bucket. `kept` is the memory that its kernels were captured with."""

    arguments: BucketArguments
    graph: Graph
    tokens: Any
    kept: list[Any]


class DecodeGraphs:
    """The graphs of one executor, captured as steps ask for them."""

    def __init__(
        self,
        vm: VirtualMachine,
        functions: FunctionsRecord,
        pools: Any,
        weights: Any,
    ) -> None:
        # A machine of its own: it is watched, which would slow down the steps without a graph.
        self._vm = vm.twin()
        self._vm.observe(self._watch)
        self._functions = functions
        self._held = pools, weights
        self._stream = Stream()
        self._tokens = PinnedBuffer(4 * BATCHES[-1])
        self._graphs: OrderedDict[Bucket, _Decode] = OrderedDict()
        self._storages: list[Any] = []

    def run(self, bucket: Bucket, inputs: StepInputs, sampling: SamplingInputs) -> list[int]:
        """The token of each row of logits, by the bucket's graph."""
        decode = self._graphs.get(bucket)
        if decode is None:
            arguments = BucketArguments(bucket, inputs, sampling)
            arguments.fill(inputs, sampling, self._stream)
            decode = self._capture(arguments)
            self._graphs[bucket] = decode
            if len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
        else:
            self._graphs.move_to_end(bucket)
            decode.arguments.fill(inputs, sampling, self._stream)
        decode.graph.launch(self._stream)
        num_tokens = len(inputs.logit_rows)
        source = decode.tokens.data_ptr()
        copy_async(self._tokens.pointer, source, 4 * num_tokens, DEVICE_TO_HOST, self._stream)
        self._stream.wait()
        tokens: list[int] = self._tokens.array.view(np.int32)[:num_tokens].tolist()
        return tokens

    def _capture(self, arguments: BucketArguments) -> _Decode:
        """Run the bucket once, which loads its kernels and takes its memory, and once more to see
        what is launched: a graph can't be captured where memory is taken from the GPU.

        The pool has every block of the first run back then, and the second gets the same. They are
        kept, since the pool gives what it has back to the GPU when memory runs out.
        """
        with self._stream.takes_kernels():
            self._run(arguments)
            self._storages = []
            graph, tokens = self._stream.capture(lambda: self._run(arguments))
            kept, self._storages = self._storages, []
        return _Decode(arguments, graph, tokens, kept)

    def _run(self, arguments: BucketArguments) -> Any:
        num_inputs = len(fields(StepInputs))
        inputs, sampling = arguments.tensors[:num_inputs], arguments.tensors[num_inputs:]
        logits = self._vm.call(self._functions.step, *inputs, *self._held)
        return self._vm.call(self._functions.sample, logits, *sampling)

    def _watch(
        self, _function: Any, name: str, before: bool, result: Any, *_: Sequence[Any]
    ) -> None:
        if name == "vm.builtin.alloc_storage" and not before:
            self._storages.append(result)
