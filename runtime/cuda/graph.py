"""Turns a step in which each sequence reads one token into two launches: of the graph from token
ids to logits, and of the one from logits to sampled tokens.

Both are captured for each bucket: so many rows, so wide a page table. Their arguments lie in
buffers that the bucket keeps. While the host waits for a step's tokens, the device goes on to the
logits of the step that will follow (`ahead.py`) with the tokens that it has; if another step comes
instead, these logits are not looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ingot.runtime.artifact.artifact import Artifact
from ingot.runtime.cuda.ahead import follow, goes_on, is_same
from ingot.runtime.cuda.buckets import BATCHES, Bucket, BucketArguments, buckets_up_to
from ingot.runtime.cuda.driver import (
    DEVICE_TO_DEVICE,
    DEVICE_TO_HOST,
    Event,
    Graph,
    PinnedBuffer,
    Stream,
    copy_async,
    free_device_memory_bytes,
)
from ingot.runtime.cuda.scratch import Scratch
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.step_inputs import StepInputs
from ingot.runtime.vm import VirtualMachine

MAX_GRAPHS = 64
# Of what is free beside weights and KV cache. The rest is for prompts, which run without a graph.
MEMORY_SHARE = 0.5
TOKEN_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Decode:
    """A captured bucket; `kept` and `scratch` are the memory that its kernels write to."""

    inputs: BucketArguments
    sampling: BucketArguments
    to_logits: Graph
    to_tokens: Graph
    tokens: Any
    kept: list[Any]
    scratch: Scratch
    num_bytes: int

    def launch(self, inputs: StepInputs, stream: Stream) -> None:
        """Put the step as far as its logits on the stream."""
        self.inputs.fill(inputs, stream)
        self.to_logits.launch(stream)

    def launch_ahead(self, following: StepInputs, stream: Stream) -> None:
        """The same for the step that follows: the tokens go where it takes its token ids."""
        self.inputs.fill(following, stream)
        source, to = self.tokens.data_ptr(), self.inputs.tensors["token_ids"].data_ptr()
        num_bytes = TOKEN_BYTES * len(following.token_ids)
        copy_async(to, source, num_bytes, DEVICE_TO_DEVICE, stream)
        self.to_logits.launch(stream)


class DecodeGraphs:
    """The graphs of one executor, captured when steps ask for them or before.

    Their memory is at most a share of what is free when this is made, after the weights and the KV
    cache; those that were not used for longest are dropped.
    """

    def __init__(self, vm: VirtualMachine, artifact: Artifact, pools: Any, weights: Any) -> None:
        manifest = artifact.manifest
        # A machine of its own: it is watched, which would slow down the steps without a graph.
        self._vm = vm.twin()
        self._vm.observe(self._watch)
        self._code_path = artifact.code_path
        self._functions = manifest.step.functions
        self._page_size_tokens = manifest.page_size_tokens
        self._max_context_tokens = manifest.step.max_context_tokens
        self._held = pools, weights
        self._stream = Stream()
        self._tokens = PinnedBuffer(TOKEN_BYTES * BATCHES[-1])
        self._are_there = Event()
        self._graphs: OrderedDict[Bucket, _Decode] = OrderedDict()
        self._limit_bytes = int(free_device_memory_bytes() * MEMORY_SHARE)
        self._storages: list[tuple[Any, int]] = []
        self._last: StepInputs | None = None
        self._ahead: tuple[_Decode, StepInputs] | None = None

    def warm(self, max_rows: int) -> None:
        """Capture what steps of at most so many rows begin with."""
        for bucket in buckets_up_to(max_rows):
            self._find(bucket)

    def forget(self) -> None:
        """Something else runs: no step is taken for the one that follows the last."""
        self._last = self._ahead = None

    def run(self, bucket: Bucket, inputs: StepInputs, sampling: SamplingInputs) -> list[int]:
        """The token of each row of logits, by the bucket's graphs."""
        decode, stream = self._find(bucket), self._stream
        if (
            self._ahead is None
            or self._ahead[0] is not decode
            or not is_same(self._ahead[1], inputs, self._page_size_tokens)
        ):
            decode.launch(inputs, stream)
        decode.sampling.fill(sampling, stream)
        decode.to_tokens.launch(stream)
        num_tokens = len(inputs.logit_rows)
        source, num_bytes = decode.tokens.data_ptr(), TOKEN_BYTES * num_tokens
        copy_async(self._tokens.pointer, source, num_bytes, DEVICE_TO_HOST, stream)
        self._are_there.record(stream)
        following = self._follow(inputs)
        if following is not None:
            decode.launch_ahead(following, stream)
        self._are_there.wait()
        tokens = self._tokens.array.view(np.int32)[:num_tokens].copy()
        self._last, self._ahead = inputs, None
        if following is not None:
            self._ahead = decode, replace(following, token_ids=tokens)
        chosen: list[int] = tokens.tolist()
        return chosen

    def _follow(self, inputs: StepInputs) -> StepInputs | None:
        """What to go ahead with. Not after a step in which sequences came or went: the next may be
        alike, and what is computed in vain keeps the device from it."""
        if self._last is None or not goes_on(self._last, inputs):
            return None
        return follow(inputs, self._page_size_tokens, self._max_context_tokens)

    def _find(self, bucket: Bucket) -> _Decode:
        decode = self._graphs.get(bucket)
        if decode is None:
            decode = self._graphs[bucket] = self._capture(bucket)
            self._make_room()
        self._graphs.move_to_end(bucket)
        return decode

    def _make_room(self) -> None:
        """Drop old graphs; the newest stays whatever it takes."""
        total_bytes = sum(decode.num_bytes for decode in self._graphs.values())
        while len(self._graphs) > 1 and (
            total_bytes > self._limit_bytes or len(self._graphs) > MAX_GRAPHS
        ):
            _, dropped = self._graphs.popitem(last=False)
            total_bytes -= dropped.num_bytes

    def _capture(self, bucket: Bucket) -> _Decode:
        """Run the bucket once on padding, which loads its kernels and takes its memory, and once
        more to see what is launched: a graph can't be captured where memory is taken from the GPU.

        The pool has every block of the first run back then, and the second gets the same. They are
        kept, since the pool gives what it has back to the GPU when memory runs out.
        """
        inputs = BucketArguments(bucket, StepInputs, num_turns=2)
        sampling = BucketArguments(bucket, SamplingInputs)
        scratch = Scratch()
        with scratch.serves(self._code_path), self._stream.takes_kernels():
            inputs.fill(None, self._stream)
            sampling.fill(None, self._stream)
            self._to_tokens(self._to_logits(inputs), sampling)
            self._storages = []
            to_logits, logits = self._stream.capture(lambda: self._to_logits(inputs))
            to_tokens, tokens = self._stream.capture(lambda: self._to_tokens(logits, sampling))
            kept, self._storages = self._storages, []
        num_bytes = scratch.num_bytes + sum(size for _, size in kept)
        return _Decode(inputs, sampling, to_logits, to_tokens, tokens, kept, scratch, num_bytes)

    def _to_logits(self, arguments: BucketArguments) -> Any:
        return self._vm.call(self._functions.step, *arguments.tensors.values(), *self._held)

    def _to_tokens(self, logits: Any, arguments: BucketArguments) -> Any:
        return self._vm.call(self._functions.sample, logits, *arguments.tensors.values())

    def _watch(
        self, _function: Any, name: str, before: bool, result: Any, *arguments: Sequence[Any]
    ) -> None:
        if name == "vm.builtin.alloc_storage" and not before:
            _machine, (num_bytes,), *_ = arguments
            self._storages.append((result, int(num_bytes)))
