"""The memory of the device and what the user asks for to a number of KV pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from ingot.errors import IngotError, UsageError
from ingot.runtime.artifact.kv_layout import kv_page_bytes
from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.cuda import free_device_memory_bytes

HOST_SHARE = 0.25  # of the machine's memory: the application and the system have the rest
DEVICE_SHARE = 0.9  # of what a GPU has left beside the weights: the rest is for activations


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that pages can lie in."""

    limit_bytes: int
    """What a user may ask for."""
    default_bytes: int
    """What is taken, at most, if nobody asks."""


def measure_room(manifest: Manifest) -> Room:
    """The memory of the machine or of its GPU, whichever the artifact runs on.

    To be asked before the weights are on the GPU.
    """
    if manifest.target.kind == "cuda":
        return device_room(free_device_memory_bytes(), sum(w.bytes for w in manifest.weights))
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Room(memory_bytes, int(memory_bytes * HOST_SHARE))


def device_room(free_bytes: int, weights_bytes: int) -> Room:
    left = free_bytes - weights_bytes
    if left <= 0:
        raise IngotError(
            f"the weights take {weights_bytes / 1e9:.1f} GB, "
            f"and {free_bytes / 1e9:.1f} GB of the GPU's memory are free",
            hint="nvidia-smi shows who uses it; --quant w4 makes the weights smaller",
        )
    return Room(left, int(left * DEVICE_SHARE))


def choose_num_pages(
    manifest: Manifest,
    num_pages: int | None,
    kv_memory_bytes: int | None,
    max_sequences: int,
    measure: Callable[[Manifest], Room] = measure_room,
) -> int:
    """The KV cache's size in pages, from whichever limit was given."""
    if num_pages is not None and kv_memory_bytes is not None:
        raise UsageError("num_pages and kv_memory_bytes are both given; one of them is enough")
    page_bytes = kv_page_bytes(manifest.kv_slots, manifest.page_size_tokens)
    room = measure(manifest)
    largest = room.limit_bytes // page_bytes
    if num_pages is not None:
        if not 1 <= num_pages <= largest:
            raise UsageError(
                f"num_pages is {num_pages:,}; it is 1 to {largest:,}, which takes all of the memory"
            )
        return num_pages
    if kv_memory_bytes is not None:
        if not page_bytes <= kv_memory_bytes <= room.limit_bytes:
            raise UsageError(
                f"kv_memory_bytes is {kv_memory_bytes:,}; it is {page_bytes:,}, one page of this "
                f"model, to {room.limit_bytes:,}, all of the memory"
            )
        return kv_memory_bytes // page_bytes
    full_context = -(-manifest.step.max_context_tokens // manifest.page_size_tokens)
    return max(1, min(max_sequences * full_context, room.default_bytes // page_bytes))
