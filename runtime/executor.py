"""Turns a step's arrays into logits and tokens: the only part that touches compiled code."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Seq
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ingot.environment import read_variable
from ingot.runtime.amx import allow_tiles
from ingot.runtime.artifact.artifact import Artifact
from ingot.runtime.artifact.kv_layout import kv_pool_shapes, slab_index
from ingot.runtime.cuda import CudaMemory
from ingot.runtime.cuda.buckets import Bucket, bucket_for
from ingot.runtime.cuda.graph import DecodeGraphs
from ingot.runtime.cuda.upload import OnProgress
from ingot.runtime.ffi import tvm_ffi
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sampling import (
    Drawn,
    PenaltyInputs,
    SamplingInputs,
    Wishes,
    rank_rows,
    read_ranked,
)
from ingot.runtime.step_inputs import StepInputs
from ingot.runtime.vm import HostMemory, VirtualMachine, as_array
from ingot.runtime.workspace import Workspace

if TYPE_CHECKING:
    from ingot.runtime.constraints.masks import Masks


class Executor(Protocol):
    """What the engine asks of a device. Logits stay where they are; only tokens come back."""

    num_graph_misses: int
    """Steps that a GPU would have run as graphs, had they listed fewer tokens."""

    def step(self, inputs: StepInputs) -> Any:
        """Write the tokens' K and V into the pools and return the logits, `[m, vocab]`."""

    def step_and_sample(self, inputs: StepInputs, sampling: SamplingInputs) -> list[int]:
        """`step` and `sample` in one, for steps whose logits nobody looks at or changes."""

    def step_captured(
        self, inputs: StepInputs, sampling: SamplingInputs, wishes: Wishes
    ) -> Drawn | None:
        """`step`, changes, `sample` and log-probabilities in one; None where a device can't do
        that, and nothing has run. No row may be of a prompt."""

    def embed(self, inputs: StepInputs) -> NDArray[np.float32]:
        """As `step`, but the hidden states that the logits would be made of, `[m, width]`, on the
        host. Valid until the next call."""

    def copy_pages(self, copies: Seq[tuple[int, int]]) -> None:
        """Copy K and V of all layers from each (source, destination) page to the other."""

    def keep(self, logits: Any, wishes: Wishes) -> Any:
        """What `rank` needs of the logits, which are then changed as is wished."""

    def penalize(self, logits: Any, penalties: PenaltyInputs) -> None:
        """Change the logits in place."""

    def mask(self, logits: Any, masks: Masks) -> None:
        """Make tokens that may not come impossible, in place. After `penalize`."""

    def sample(self, logits: Any, sampling: SamplingInputs) -> list[int]:
        """Choose one token for each row."""

    def rank(self, kept: Any, tokens: Seq[int], wishes: Wishes) -> list[TokenLogprob | None]:
        """The probability of each row's token, and the likeliest tokens, where it is asked for."""


class Memory(Protocol):
    """Where the tensors of compiled code live: the host's memory or a GPU's."""

    def empty_all(self, kinds: Seq[tuple[tuple[int, ...], DTypeLike]]) -> list[Any]:
        """Tensors of these shapes and types that hold anything, to be kept for long."""

    def hold(self, array: NDArray[Any]) -> Any:
        """An array as a tensor, to be kept for long."""

    def hold_all(
        self, arrays: Seq[NDArray[Any]], on_progress: OnProgress | None = None
    ) -> list[Any]:
        """Many arrays as tensors, to be kept for long."""

    def lend(self, arrays: Seq[NDArray[Any]]) -> list[Any]:
        """Small arrays as tensors, for one call."""

    def read(self, tensor: Any) -> NDArray[Any]:
        """A tensor as an array on the host."""

    def copy_rows(self, tensor: Any, copies: Seq[tuple[int, int]]) -> None:
        """Overwrite each second row with the first, in place."""


def writable(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same memory, whether NumPy takes it for read-only or not, as releases before 2.1 do."""
    memory = (ctypes.c_float * array.size).from_address(array.ctypes.data)
    return np.ctypeslib.as_array(memory).reshape(array.shape)


class CompiledExecutor:
    """Runs an artifact's functions on the device that it was compiled for. While weights are copied
    to a GPU, `on_progress` is called. Memory for steps of so many tokens and sequences is planned
    now, and a GPU's graphs of them are captured, with so many proposed tokens of each; larger ones
    are possible. What a call gives is
    valid until the next one."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        num_pages: int,
        num_threads: int | None = None,
        max_step_tokens: int = 0,
        max_sequences: int = 0,
        max_proposed: int = 0,
        on_progress: OnProgress | None = None,
    ) -> None:
        manifest = artifact.manifest
        cuda_archs = manifest.target.cuda_archs
        allow_tiles(manifest.target.features)
        self.vm = VirtualMachine(artifact.code_path, num_threads, cuda_archs)
        self._memory: Memory = CudaMemory() if cuda_archs else HostMemory()
        self._functions = functions = manifest.step.functions
        self._kv_slots = manifest.kv_slots
        shapes = kv_pool_shapes(self._kv_slots, num_pages, manifest.page_size_tokens)
        self._pools = tvm_ffi.Array(self._memory.empty_all(shapes))
        self._weights = tvm_ffi.Array(self._memory.hold_all(artifact.weights, on_progress))
        bounds = {"n": max_step_tokens, "b": max_sequences, "p": num_pages, "m": max_sequences}
        amounts = dict(manifest.step.workspace)
        # Memory of their own for these: the step's logits and the tokens stay where they are.
        self._sampling, self._ranking = (
            Workspace(self.vm, {name: amounts.pop(name)} if name in amounts else {}, bounds)
            for name in (functions.sample, functions.logprobs)
        )
        # A GPU's memory is taken whether it is written or not: what few steps need comes with them.
        planned = (functions.step,) if cuda_archs else None
        self._workspace = Workspace(self.vm, amounts, bounds, planned)
        self.num_graph_misses = 0
        self._graphs: DecodeGraphs | None = None
        if read_variable("INGOT_CUDA_GRAPHS") and isinstance(self._memory, CudaMemory):
            self._graphs = DecodeGraphs(self.vm, artifact, self._pools, self._weights)
            self._graphs.warm(max_sequences, 1 + max_proposed)

    def step(self, inputs: StepInputs) -> Any:
        return self._run(self._functions.step, inputs)

    def step_and_sample(self, inputs: StepInputs, sampling: SamplingInputs) -> list[int]:
        bucket = self._bucket_for(inputs)
        if self._graphs is not None and bucket is not None:
            return self._graphs.run(bucket, inputs, sampling).tokens
        return self.sample(self.step(inputs), sampling)

    def step_captured(
        self, inputs: StepInputs, sampling: SamplingInputs, wishes: Wishes
    ) -> Drawn | None:
        bucket = self._bucket_for(inputs)
        if self._graphs is None or bucket is None or bucket.num_each > 1:
            return None
        if not self._graphs.can_grant(wishes):
            self.num_graph_misses += 1
            return None
        return self._graphs.run(bucket, inputs, sampling, wishes)

    def _bucket_for(self, inputs: StepInputs) -> Bucket | None:
        return None if self._graphs is None else bucket_for(inputs)

    def embed(self, inputs: StepInputs) -> NDArray[np.float32]:
        assert self._functions.embed is not None, "an artifact without embeddings"
        return self._memory.read(self._run(self._functions.embed, inputs))

    def trace(self, inputs: StepInputs) -> list[NDArray[np.float32]]:
        """A step that shows its inside, for the proof: the logits `[m, vocab]`, then the hidden
        states `[n, hidden]` after each layer."""
        return [self._memory.read(tensor) for tensor in self._run(self._functions.trace, inputs)]

    def arguments(self, function: str, inputs: StepInputs) -> list[Any]:
        """What a step's function is called with, in its order."""
        arrays = self._memory.lend(inputs.arrays())
        views = self._workspace.views(function, inputs.dimensions())
        return [*arrays, self._pools, self._weights, *views]

    def _run(self, function: str, inputs: StepInputs) -> Any:
        if self._graphs is not None:
            self._graphs.forget()
        return self.vm.call(function, *self.arguments(function, inputs))

    def copy_pages(self, copies: Seq[tuple[int, int]]) -> None:
        if self._graphs is not None:
            self._graphs.forget()
        for number, slot in enumerate(self._kv_slots):
            slabs = [
                (slab_index(source, head, slot.kv_heads), slab_index(to, head, slot.kv_heads))
                for source, to in copies
                for head in range(slot.kv_heads)
            ]
            for pool in self._pools[2 * number : 2 * number + 2]:
                self._memory.copy_rows(pool, slabs)

    def keep(self, logits: Any, wishes: Wishes) -> Any:
        if isinstance(self._memory, CudaMemory):
            return self._memory.copy(logits) if wishes.changes_logits else logits
        return as_array(logits)[wishes.asked_rows]

    def penalize(self, logits: Any, penalties: PenaltyInputs) -> None:
        self.vm.call(self._functions.penalize, logits, *self._lend(penalties))

    def mask(self, logits: Any, masks: Masks) -> None:
        if self._functions.mask is not None:
            num_rows, vocab_size = logits.shape
            bits = masks.bits[:, : -(-vocab_size // 32)]
            self.vm.call(
                self._functions.mask,
                logits,
                *self._memory.lend([masks.by_row(num_rows), bits]),
            )
            return
        from ingot.runtime.constraints.masks import mask_logits

        mask_logits(writable(as_array(logits)), masks)

    def sample(self, logits: Any, sampling: SamplingInputs) -> list[int]:
        function = self._functions.sample
        views = self._sampling.views(function, {"m": len(sampling.uniform)})
        tokens = self.vm.call(function, logits, *self._lend(sampling), *views)
        chosen: list[int] = self._memory.read(tokens).tolist()
        return chosen

    def rank(self, kept: Any, tokens: Seq[int], wishes: Wishes) -> list[TokenLogprob | None]:
        if self._functions.logprobs is None:
            return rank_rows(kept, tokens, wishes)
        assert wishes.num_top is not None
        arguments = self._memory.lend([np.array(tokens, np.int32), wishes.num_top])
        views = self._ranking.views(self._functions.logprobs, {"m": len(tokens)})
        found = self.vm.call(self._functions.logprobs, kept, *arguments, *views)
        return read_ranked(self._memory.read(found), tokens, wishes, kept.shape[1])

    def _lend(self, inputs: PenaltyInputs | SamplingInputs) -> list[Any]:
        """A record's arrays, in the order of its fields."""
        return self._memory.lend([getattr(inputs, field.name) for field in fields(inputs)])
