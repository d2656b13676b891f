"""Turns a step in which sequences read one token, or proposed ones too, into two launches: of the
graph from token ids to logits, and of the one from logits to sampled tokens.

The first is captured for each bucket: so many rows, so wide a page table. What comes after the
logits is the same for all of so many rows. Arguments lie in buffers that keep their place, and what
graphs compute in memory that all share, since one runs at a time. While the host waits for a step's
tokens, the device goes on to the logits of the step that will follow (`ahead.py`) with the tokens
that it has; if another step comes instead, these logits are not looked at.

A step whose logits are changed before a token is chosen (penalties, biases, masks) launches a third
graph between the two, one whose log-probabilities are wanted another after them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ingot.errors import ArtifactVersionError
from ingot.runtime.artifact.artifact import Artifact
from ingot.runtime.cuda.ahead import follow, goes_on, is_same
from ingot.runtime.cuda.buckets import (
    BATCHES,
    Bucket,
    BucketArguments,
    buckets_up_to,
    spread,
)
from ingot.runtime.cuda.capture import Captured, Recorder
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
from ingot.runtime.workspace import Workspace

MAX_BUCKETS = 128
# Of what is free beside weights and KV cache. The rest is for prompts, which run without a graph.
MEMORY_SHARE = 0.5
TOKEN_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Ending:
    """What comes after so many rows of logits: the sampled tokens; before them the change of the
    logits, and after them the log-probabilities, which a step may want."""

    logits: Any
    sampling: BucketArguments
    scratch: Scratch
    to_changed: Captured
    to_tokens: Captured
    to_ranked: Captured


@dataclass(frozen=True, slots=True)
class _Decode:
    """A bucket's graph, the scratch memory that it writes to, and what comes after it."""

    inputs: BucketArguments
    scratch: Scratch
    to_logits: Captured
    ending: _Ending

    def launch(self, inputs: StepInputs, stream: Stream) -> None:
        """Put the step as far as its logits on the stream."""
        self.inputs.fill(inputs, stream)
        self.to_logits.graph.launch(stream)

    def launch_ahead(self, following: StepInputs, stream: Stream) -> None:
        """The same for the step that follows: the tokens go where it takes its token ids."""
        self.inputs.fill(following, stream)
        source = self.ending.to_tokens.result.data_ptr()
        to = self.inputs.tensors["token_ids"].data_ptr()
        num_bytes = TOKEN_BYTES * len(following.token_ids)
        copy_async(to, source, num_bytes, DEVICE_TO_DEVICE, stream)
        self.to_logits.graph.launch(stream)


class DecodeGraphs:
    """The graphs of one executor, captured when steps ask for them or before.

    Their scratch memory is at most a share of what is free when this is made, after the weights and
    the KV cache; those that were not used for longest are dropped.
    """

    def __init__(self, vm: VirtualMachine, artifact: Artifact, pools: Any, weights: Any) -> None:
        manifest = artifact.manifest
        self._vm = vm
        self._functions = functions = manifest.step.functions
        self._page_size_tokens = manifest.page_size_tokens
        self._max_context_tokens = manifest.step.max_context_tokens
        self._held = pools, weights
        self._stream = Stream()
        self._recorder = Recorder(artifact.code_path, self._stream)
        amounts = manifest.step.workspace
        if functions.step not in amounts:
            raise ArtifactVersionError(
                "this artifact's steps take memory of the GPU as they run, which graphs can't",
                hint="compile the model again; until then, INGOT_CUDA_GRAPHS=off runs it without",
            )
        # As large as any bucket can need, so that it stays where it is.
        widest = -(-self._max_context_tokens // self._page_size_tokens)
        bounds = {**dict.fromkeys("nbm", BATCHES[-1]), "p": widest}
        self._workspaces = {
            name: Workspace(vm, {name: amounts[name]}, bounds)
            for name in (functions.step, functions.sample, functions.logprobs)
            if name is not None
        }
        self._wish_buffers = WishBuffers(manifest.step.vocab_size)
        self._tokens = PinnedBuffer(TOKEN_BYTES * BATCHES[-1])
        self._are_there = Event(is_timed=False)
        self._graphs: OrderedDict[Bucket, _Decode] = OrderedDict()
        self._endings: dict[tuple[int, int], _Ending] = {}  # by rows, and where their logits lie
        self._limit_bytes = int(free_device_memory_bytes() * MEMORY_SHARE)
        self._last: StepInputs | None = None
        self._ahead: tuple[_Decode, StepInputs] | None = None

    def warm(self, max_sequences: int, max_each: int = 1) -> None:
        """Capture what steps of at most so many sequences, and tokens of each, begin with."""
        for bucket in buckets_up_to(max_sequences, max_each):
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
        """The token of each row of logits, by the bucket's graphs. There are no wishes where tokens
        were proposed."""
        if bucket.num_each > 1:
            self.forget()
            wide = spread(inputs, sampling, bucket.num_each)
            tokens = self._run(bucket, wide.inputs, wide.sampling, None).tokens
            return Drawn([tokens[place] for place in wide.places], [None] * len(wide.places))
        return self._run(bucket, inputs, sampling, wishes)

    def _run(
        self, bucket: Bucket, inputs: StepInputs, sampling: SamplingInputs, wishes: Wishes | None
    ) -> Drawn:
        use_first_gpu()
        decode, stream = self._find(bucket), self._stream
        ahead, self._ahead = self._ahead, None
        if (
            ahead is None
            or ahead[0] is not decode
            or not is_same(ahead[1], inputs, self._page_size_tokens)
        ):
            decode.launch(inputs, stream)
        ending, num_tokens = decode.ending, len(inputs.logit_rows)
        ending.sampling.fill(sampling, stream)
        if wishes is not None:
            self._launch_changes(ending, wishes, num_tokens)
        ending.to_tokens.graph.launch(stream)
        source, num_bytes = ending.to_tokens.result.data_ptr(), TOKEN_BYTES * num_tokens
        copy_async(self._tokens.pointer, source, num_bytes, DEVICE_TO_HOST, stream)
        is_ranked = wishes is not None and wishes.num_top is not None
        if is_ranked:
            ending.to_ranked.graph.launch(stream)
            self._wish_buffers.bring(ending.to_ranked.result, num_tokens, stream)
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

    def _launch_changes(self, ending: _Ending, wishes: Wishes, num_tokens: int) -> None:
        """Put on the stream what comes between logits and tokens."""
        buffers, stream = self._wish_buffers, self._stream
        if wishes.num_top is not None:
            buffers.keep(ending.logits, num_tokens, stream)
        buffers.fill(wishes, stream)
        if wishes.changes_logits:
            ending.to_changed.graph.launch(stream)

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
        total_bytes = sum(decode.scratch.num_bytes for decode in self._graphs.values())
        while len(self._graphs) > 1 and (
            total_bytes > self._limit_bytes or len(self._graphs) > MAX_BUCKETS
        ):
            _, dropped = self._graphs.popitem(last=False)
            total_bytes -= dropped.scratch.num_bytes

    def _capture(self, bucket: Bucket) -> _Decode:
        """The graph of a step of padding, and what comes after it."""
        name = self._functions.step
        inputs, scratch = BucketArguments(bucket, StepInputs, num_turns=2), Scratch()
        inputs.fill(None, self._stream)
        to_logits = self._record(name, bucket, scratch, *inputs.tensors.values(), *self._held)
        logits = to_logits.result
        key = bucket.num_rows, logits.data_ptr()
        if key not in self._endings:
            self._endings[key] = self._capture_ending(bucket, logits)
        ending = self._endings[key]
        return _Decode(inputs, scratch, to_logits, ending)

    def _capture_ending(self, bucket: Bucket, logits: Any) -> _Ending:
        """By a step that wishes nothing, which leaves the logits as they are."""
        functions, buffers, num_rows = self._functions, self._wish_buffers, bucket.num_rows
        mask, logprobs = functions.mask, functions.logprobs
        assert mask is not None and logprobs is not None, "an artifact for a CPU"
        sampling, scratch = BucketArguments(bucket, SamplingInputs), Scratch()
        sampling.fill(None, self._stream)
        buffers.fill(Wishes(), self._stream)

        def change() -> None:
            self._vm.call(functions.penalize, logits, *buffers.penalties(num_rows))
            self._vm.call(mask, logits, *buffers.masks(num_rows))

        to_changed = self._recorder.capture(scratch, change)
        arguments = sampling.tensors.values()
        to_tokens = self._record(functions.sample, bucket, scratch, logits, *arguments)
        raw, num_top = buffers.raw(num_rows), buffers.num_top(num_rows)
        to_ranked = self._record(logprobs, bucket, scratch, raw, to_tokens.result, num_top)
        return _Ending(logits, sampling, scratch, to_changed, to_tokens, to_ranked)

    def _record(self, name: str, bucket: Bucket, scratch: Scratch, *arguments: Any) -> Captured:
        """The graph of one call of a function that has memory of its own."""
        views = self._workspaces[name].views(name, bucket.dimensions)
        return self._recorder.capture(scratch, lambda: self._vm.call(name, *arguments, *views))
