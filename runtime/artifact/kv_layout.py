"""The KV cache's pages to their places in the pools, for compiled code and the runtime alike.

A layer has a pool of keys `[slab, key_dim, slot]` and one of values `[slab, slot, value_dim]`. A
slab is what one KV head has of a page. Keys are transposed in it, so that a query times all of them
runs over vector lanes.

The slabs of a head lie side by side for `PAGES_SIDE_BY_SIDE` pages of consecutive numbers: a
context is read head by head, and a CPU fetches ahead of a stream of many slabs, but not of every
other one. With all slabs of a head side by side, few pages would be spread over much memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ingot.runtime.artifact.manifest import KVSlotRecord
from ingot.runtime.artifact.weights_file import storage_dtype

PAGES_SIDE_BY_SIDE = 16


def slab_index(page: Any, kv_head: Any, kv_heads: int) -> Any:
    """The slab of a page's KV head, of numbers, arrays of them, or expressions in kernels."""
    group, place = page // PAGES_SIDE_BY_SIDE, page % PAGES_SIDE_BY_SIDE
    return (group * kv_heads + kv_head) * PAGES_SIDE_BY_SIDE + place


def num_slabs(num_pages: int, kv_heads: int) -> int:
    """The slabs of a pool that holds pages 0 .. num_pages - 1."""
    return -(-num_pages // PAGES_SIDE_BY_SIDE) * PAGES_SIDE_BY_SIDE * kv_heads


def kv_page_bytes(slots: tuple[KVSlotRecord, ...], page_size_tokens: int) -> int:
    """What one page takes, over all layers."""
    return page_size_tokens * sum(slot.token_bytes for slot in slots)


def kv_pool_shapes(
    slots: tuple[KVSlotRecord, ...], num_pages: int, page_size: int
) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of each layer's pool of keys and of values."""
    pools: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
    for slot in slots:
        slabs, dtype = num_slabs(num_pages, slot.kv_heads), storage_dtype(slot.dtype)
        pools.append(((slabs, slot.key_dim, page_size), dtype))
        pools.append(((slabs, page_size, slot.value_dim), dtype))
    return pools
