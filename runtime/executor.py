"""Turns a step's arrays into logits and tokens: the only part that touches compiled code."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.artifact.artifact import Artifact
from ingot.runtime.artifact.manifest import KVSlotRecord
from ingot.runtime.artifact.weights_file import storage_dtype
from ingot.runtime.sampling import PenaltyInputs, SamplingInputs
from ingot.runtime.step_inputs import StepInputs
from ingot.runtime.vm import VirtualMachine, aligned_zeros, as_array, as_tuple, lend


class Executor(Protocol):
    """What the engine asks of a device. Logits stay where they are; only tokens come back."""

    def step(self, inputs: StepInputs) -> Any:
        """Write the tokens' K and V into the pools and return the logits, `[m, vocab]`."""

    def read_row(self, logits: Any, row: int) -> NDArray[np.float32]:
        """Copy one row of logits to the host."""

    def penalize(self, logits: Any, penalties: PenaltyInputs) -> None:
        """Change the logits in place."""

    def sample(self, logits: Any, sampling: SamplingInputs) -> list[int]:
        """Choose one token for each row."""


def kv_page_bytes(slots: tuple[KVSlotRecord, ...], page_size_tokens: int) -> int:
    """What one page takes, over all layers."""
    return page_size_tokens * sum(
        slot.kv_heads * (slot.key_dim + slot.value_dim) * storage_dtype(slot.dtype).itemsize
        for slot in slots
    )


def create_kv_pools(
    slots: tuple[KVSlotRecord, ...], num_pages: int, page_size: int
) -> list[NDArray[Any]]:
    """K is transposed inside a page, so that a query times all its keys runs over vector lanes."""
    pools = []
    for slot in slots:
        dtype = storage_dtype(slot.dtype)
        pools.append(aligned_zeros((num_pages, slot.kv_heads, slot.key_dim, page_size), dtype))
        pools.append(aligned_zeros((num_pages, slot.kv_heads, page_size, slot.value_dim), dtype))
    return pools


class CompiledExecutor:
    """Runs an artifact's functions on the CPU."""

    def __init__(
        self, artifact: Artifact, *, num_pages: int, num_threads: int | None = None
    ) -> None:
        manifest = artifact.manifest
        self.vm = VirtualMachine(artifact.code_path, num_threads)
        self._functions = manifest.step.functions
        self._pools = as_tuple(
            create_kv_pools(manifest.kv_slots, num_pages, manifest.page_size_tokens)
        )
        self._weights = as_tuple(artifact.weights)

    def step(self, inputs: StepInputs) -> Any:
        return self._run(self._functions.step, inputs)

    def trace(self, inputs: StepInputs) -> list[NDArray[np.float32]]:
        """A step that shows its inside, for the proof: the logits `[m, vocab]`, then the hidden
        states `[n, hidden]` after each layer."""
        return [as_array(tensor) for tensor in self._run(self._functions.trace, inputs)]

    def _run(self, function: str, inputs: StepInputs) -> Any:
        return self.vm.call(function, *lend(inputs.arrays()), self._pools, self._weights)

    def read_row(self, logits: Any, row: int) -> NDArray[np.float32]:
        return np.array(as_array(logits)[row])

    def penalize(self, logits: Any, penalties: PenaltyInputs) -> None:
        self.vm.call(self._functions.penalize, logits, *_tensors(penalties))

    def sample(self, logits: Any, sampling: SamplingInputs) -> list[int]:
        tokens = self.vm.call(self._functions.sample, logits, *_tensors(sampling))
        return [int(token) for token in as_array(tokens)]


def _tensors(inputs: PenaltyInputs | SamplingInputs) -> list[Any]:
    """A record's arrays as aligned tensors, in the order of its fields."""
    return lend([getattr(inputs, field.name) for field in fields(inputs)])
