"""The memory of the device and what the user asks for to a number of KV pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ingot.errors import IngotError, UsageError
from ingot.runtime.artifact.kv_layout import kv_page_bytes
from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.artifact.work import evaluate
from ingot.runtime.cuda import free_device_memory_bytes

HOST_SHARE = 0.25  # of the machine's memory: the application and the system have the rest
DEVICE_SHARE = 0.9  # of what a GPU has left beside weights and steps: the rest is for graphs


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that pages can lie in."""

    limit_bytes: int
    """What a user may ask for."""
    default_bytes: int
    """What is taken, at most, if nobody asks."""


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine runs: steps of so many tokens and sequences, and a draft model if any."""

    manifest: Manifest
    max_sequences: int
    max_step_tokens: int
    draft: Manifest | None = None

    @property
    def manifests(self) -> list[Manifest]:
        return [self.manifest] if self.draft is None else [self.manifest, self.draft]

    @property
    def page_bytes(self) -> int:
        """Of a page, and of a draft model's for the same tokens."""
        size = self.manifest.page_size_tokens
        return sum(
            kv_page_bytes(m.kv_slots, m.page_size_tokens) * size // m.page_size_tokens
            for m in self.manifests
        )

    @property
    def beside_bytes(self) -> int:
        """The weights, and what the longest steps compute in."""
        most = self.max_sequences
        total_bytes = 0
        for manifest in self.manifests:
            step = manifest.step
            widest = -(-step.max_context_tokens // manifest.page_size_tokens)
            bounds = {"n": self.max_step_tokens, "b": most, "m": most, "p": widest}
            arena = evaluate(step.workspace.get(step.functions.step, {}), bounds)
            total_bytes += arena + sum(weight.bytes for weight in manifest.weights)
        return total_bytes


def measure_room(load: Load) -> Room:
    """The memory of the machine or of its GPU, whichever the artifact runs on.

    To be asked before the weights are on the GPU.
    """
    if load.manifest.target.kind == "cuda":
        return device_room(free_device_memory_bytes(), load.beside_bytes)
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Room(memory_bytes, int(memory_bytes * HOST_SHARE))


def device_room(free_bytes: int, beside_bytes: int) -> Room:
    left = free_bytes - beside_bytes
    if left <= 0:
        raise IngotError(
            f"the weights and a step take {beside_bytes / 1e9:.1f} GB, "
            f"and {free_bytes / 1e9:.1f} GB of the GPU's memory are free",
            hint="nvidia-smi shows who uses it; --quant w4 makes the weights smaller",
        )
    return Room(left, int(left * DEVICE_SHARE))


def choose_num_pages(
    load: Load,
    num_pages: int | None,
    kv_memory_bytes: int | None,
    measure: Callable[[Load], Room] = measure_room,
) -> int:
    """The KV cache's size in pages, from whichever limit was given."""
    if num_pages is not None and kv_memory_bytes is not None:
        raise UsageError("num_pages and kv_memory_bytes are both given; one of them is enough")
    manifest, room = load.manifest, measure(load)
    largest = room.limit_bytes // load.page_bytes
    if num_pages is not None:
        if not 1 <= num_pages <= largest:
            raise UsageError(
                f"num_pages is {num_pages:,}; it is 1 to {largest:,}, which takes all of the memory"
            )
        return num_pages
    if kv_memory_bytes is not None:
        page_bytes = kv_page_bytes(manifest.kv_slots, manifest.page_size_tokens)
        if not page_bytes <= kv_memory_bytes <= room.limit_bytes:
            raise UsageError(
                f"kv_memory_bytes is {kv_memory_bytes:,}; it is {page_bytes:,}, one page of this "
                f"model, to {room.limit_bytes:,}, all of the memory"
            )
        return kv_memory_bytes // page_bytes
    full_context = -(-manifest.step.max_context_tokens // manifest.page_size_tokens)
    return max(1, min(load.max_sequences * full_context, room.default_bytes // load.page_bytes))
