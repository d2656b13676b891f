"""Turns a step in which each sequence reads one token into two launches: of the graph from token
ids to logits, and of the one from logits to sampled tokens.

Both are captured for each bucket: so many rows, so wide a page table. Their arguments lie in
buffers that the bucket keeps. While the host waits for a step's tokens, the device goes on to the
logits of the step that will follow (`ahead.py`) with the tokens that it has; if another step comes
instead, these logits are not looked at.

A step whose logits are changed before a token is chosen (penalties, biases, masks) launches a third
graph between the two, one whose log-probabilities are wanted another after them. A bucket captures
these when a step first asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ingot.runtime.artifact.artifact import Artifact
from ingot.runtime.cuda.ahead import follow, goes_on, is_same
from ingot.runtime.cuda.buckets import BATCHES, Bucket, BucketArguments, buckets_up_to
from ingot.runtime.cuda.capture import Call, Captured, Recorder
from ingot.runtime.cuda.driver import (
    DEVICE_TO_DEVICE,
    DEVICE_TO_HOST,
    Event,
    PinnedBuffer,
    Stream,
    copy_async,
    free_device_memory_bytes,
)
from ingot.runtime.cuda.library import use_first_gpu
from ingot.runtime.cuda.scratch import Scratch
from ingot.runtime.cuda.wishes import MAX_LISTED, WishBuffers
from ingot.runtime.sampling import Drawn, SamplingInputs, Wishes
from ingot.runtime.step_inputs import StepInputs
from ingot.runtime.vm import VirtualMachine

MAX_BUCKETS = 64  # of up to four graphs each
# Of what is free beside weights and KV cache. The rest is for prompts, which run without a graph.
MEMORY_SHARE = 0.5
TOKEN_BYTES = 4


@dataclass(slots=True)
class _Decode:
    """A bucket's graphs, and the scratch memory that they all write to."""

    num_rows: int
    inputs: BucketArguments
    sampling: BucketArguments
    scratch: Scratch
    to_logits: Captured
    to_tokens: Captured
    to_changed: Captured | None = None
    to_ranked: Captured | None = None

    @property
    def num_bytes(self) -> int:
        graphs = (self.to_logits, self.to_tokens, self.to_changed, self.to_ranked)
        return self.scratch.num_bytes + sum(graph.num_bytes for graph in graphs if graph)

    def launch(self, inputs: StepInputs, stream: Stream) -> None:
        """Put the step as far as its logits on the stream."""
        self.inputs.fill(inputs, stream)
        self.to_logits.graph.launch(stream)

    def launch_ahead(self, following: StepInputs, stream: Stream) -> None:
        """The same for the step that follows: the tokens go where it takes its token ids."""
        self.inputs.fill(following, stream)
        source, to = self.to_tokens.result.data_ptr(), self.inputs.tensors["token_ids"].data_ptr()
        num_bytes = TOKEN_BYTES * len(following.token_ids)
        copy_async(to, source, num_bytes, DEVICE_TO_DEVICE, stream)
        self.to_logits.graph.launch(stream)


class DecodeGraphs:
    """The graphs of one executor, captured when steps ask for them or before.

    Their memory is at most a share of what is free when this is made, after the weights and the KV
    cache; those that were not used for longest are dropped.
    """

    def __init__(self, vm: VirtualMachine, artifact: Artifact, pools: Any, weights: Any) -> None:
        manifest = artifact.manifest
        self._functions = manifest.step.functions
        self._vocab_size = manifest.step.vocab_size
        self._page_size_tokens = manifest.page_size_tokens
        self._max_context_tokens = manifest.step.max_context_tokens
        self._held = pools, weights
        self._stream = Stream()
        self._recorder = Recorder(vm, artifact.code_path, self._stream)
        self._tokens = PinnedBuffer(TOKEN_BYTES * BATCHES[-1])
        self._are_there = Event(is_timed=False)
        self._graphs: OrderedDict[Bucket, _Decode] = OrderedDict()
        self._limit_bytes = int(free_device_memory_bytes() * MEMORY_SHARE)
        self._last: StepInputs | None = None
        self._ahead: tuple[_Decode, StepInputs] | None = None

    def warm(self, max_rows: int) -> None:
        """Capture what steps of at most so many rows begin with."""
        for bucket in buckets_up_to(max_rows):
            self._find(bucket)

    def forget(self) -> None:
        """Something else runs: no step is taken for the one that follows the last."""
        self._last = self._ahead = None

    @staticmethod
    def can_grant(wishes: Wishes) -> bool:
        """Whether what is asked for is within the bounds of the buffers."""
        return wishes.penalties is None or len(wishes.penalties.tokens) <= MAX_LISTED

    def run(
        self,
        bucket: Bucket,
        inputs: StepInputs,
        sampling: SamplingInputs,
        wishes: Wishes | None = None,
    ) -> Drawn:
        """The token of each row of logits, by the bucket's graphs."""
        use_first_gpu()
        decode, stream = self._find(bucket), self._stream
        ahead, self._ahead = self._ahead, None
        if (
            ahead is None
            or ahead[0] is not decode
            or not is_same(ahead[1], inputs, self._page_size_tokens)
        ):
            decode.launch(inputs, stream)
        decode.sampling.fill(sampling, stream)
        num_tokens = len(inputs.logit_rows)
        if wishes is not None:
            self._launch_changes(decode, wishes, num_tokens)
        decode.to_tokens.graph.launch(stream)
        source, num_bytes = decode.to_tokens.result.data_ptr(), TOKEN_BYTES * num_tokens
        copy_async(self._tokens.pointer, source, num_bytes, DEVICE_TO_HOST, stream)
        is_ranked = wishes is not None and wishes.num_top is not None
        if is_ranked:
            ranked = self._find_ranked(decode)
            ranked.graph.launch(stream)
            self._wish_buffers.bring(ranked.result, num_tokens, stream)
        self._are_there.record(stream)
        following = self._follow(inputs)
        if following is not None:
            decode.launch_ahead(following, stream)
        self._are_there.wait()
        tokens = self._tokens.array.view(np.int32)[:num_tokens].copy()
        self._last = inputs
        if following is not None:
            self._ahead = decode, replace(following, token_ids=tokens)
        chosen = tokens.tolist()
        if wishes is None or not is_ranked:
            return Drawn(chosen, [None] * num_tokens)
        return Drawn(chosen, self._wish_buffers.read(chosen, wishes))

    def _launch_changes(self, decode: _Decode, wishes: Wishes, num_tokens: int) -> None:
        """Put on the stream what comes between logits and tokens."""
        buffers, stream = self._wish_buffers, self._stream
        changed = self._find_changed(decode) if wishes.changes_logits else None
        if wishes.num_top is not None:
            self._find_ranked(decode)  # before the buffers are filled
            buffers.keep(decode.to_logits.result, num_tokens, stream)
        buffers.fill(wishes, stream)
        if changed is not None:
            changed.graph.launch(stream)

    @cached_property
    def _wish_buffers(self) -> WishBuffers:
        """Made by the first step that wishes anything."""
        return WishBuffers(self._vocab_size)

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

    def _make_room(self, more_bytes: int = 0) -> None:
        """Drop old graphs; the newest stays whatever it takes."""
        total_bytes = more_bytes + sum(decode.num_bytes for decode in self._graphs.values())
        while len(self._graphs) > 1 and (
            total_bytes > self._limit_bytes or len(self._graphs) > MAX_BUCKETS
        ):
            _, dropped = self._graphs.popitem(last=False)
            total_bytes -= dropped.num_bytes

    def _capture(self, bucket: Bucket) -> _Decode:
        """The graphs that every step of the bucket needs, by a step of padding."""
        functions, scratch = self._functions, Scratch()
        inputs = BucketArguments(bucket, StepInputs, num_turns=2)
        sampling = BucketArguments(bucket, SamplingInputs)
        inputs.fill(None, self._stream)
        sampling.fill(None, self._stream)
        to_logits = self._recorder.capture(
            scratch, lambda call: call(functions.step, *inputs.tensors.values(), *self._held)
        )
        logits = to_logits.result
        to_tokens = self._recorder.capture(
            scratch, lambda call: call(functions.sample, logits, *sampling.tensors.values())
        )
        return _Decode(bucket.num_rows, inputs, sampling, scratch, to_logits, to_tokens)

    def _find_changed(self, decode: _Decode) -> Captured:
        """The graph from logits to those that tokens are chosen by."""
        if decode.to_changed is None:
            functions, logits = self._functions, decode.to_logits.result
            buffers, num_rows = self._wish_buffers, decode.num_rows

            def change(call: Call) -> None:
                call(functions.penalize, logits, *buffers.penalties(num_rows))
                call(functions.mask, logits, *buffers.masks(num_rows))

            decode.to_changed = self._capture_wish(decode, change)
        return decode.to_changed

    def _find_ranked(self, decode: _Decode) -> Captured:
        """The graph from tokens to what their log-probabilities are made of."""
        if decode.to_ranked is None:
            buffers, num_rows = self._wish_buffers, decode.num_rows
            raw, num_top = buffers.raw(num_rows), buffers.num_top(num_rows)
            name, tokens = self._functions.logprobs, decode.to_tokens.result
            decode.to_ranked = self._capture_wish(
                decode, lambda call: call(name, raw, tokens, num_top)
            )
        return decode.to_ranked

    def _capture_wish(self, decode: _Decode, work: Callable[[Call], Any]) -> Captured:
        """By a step that wishes nothing, which leaves the logits as they are."""
        self._wish_buffers.fill(Wishes(), self._stream)
        captured = self._recorder.capture(decode.scratch, work)
        self._make_room(captured.num_bytes)
        return captured
