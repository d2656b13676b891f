"""Turns new keys and values into pages in NumPy: what the kv_write kernels mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.artifact.kv_layout import slab_index


def to_kv_dtype(x: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """Round to nearest even; bfloat16 as raw uint16."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def from_kv_dtype(x: NDArray[np.generic], dtype: str) -> NDArray[np.float64]:
    if dtype == "bfloat16":
        x = (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float64)


def reference(
    key: NDArray[np.float32],
    value: NDArray[np.float32],
    slots: NDArray[np.int32],
    key_pool: NDArray[np.generic],
    value_pool: NDArray[np.generic],
    dtype: str,
) -> None:
    """Write key[n, kv_heads, key_dim] and value[n, kv_heads, value_dim] into the pools in place."""
    page_size, kv_heads = value_pool.shape[1], key.shape[1]
    for row, slot in enumerate(slots):
        if slot >= 0:
            page, offset = divmod(int(slot), page_size)
            slabs = slab_index(page, np.arange(kv_heads), kv_heads)
            key_pool[slabs, :, offset] = to_kv_dtype(key[row], dtype)
            value_pool[slabs, offset] = to_kv_dtype(value[row], dtype)
