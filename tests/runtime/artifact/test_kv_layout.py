"""Pages' places in the pools."""

import numpy as np

from ingot.runtime.artifact.kv_layout import (
    PAGES_SIDE_BY_SIDE,
    kv_page_bytes,
    kv_pool_shapes,
    num_slabs,
    slab_index,
)
from ingot.runtime.artifact.manifest import KVSlotRecord

SLOTS = (
    KVSlotRecord(kv_heads=2, key_dim=8, value_dim=4, window=0, dtype="bfloat16"),
    KVSlotRecord(kv_heads=1, key_dim=16, value_dim=16, window=9, dtype="float32"),
)


def test_every_page_and_head_has_a_slab_of_its_own() -> None:
    num_pages, kv_heads = 5 * PAGES_SIDE_BY_SIDE, 3
    pages, heads = np.arange(num_pages), np.arange(kv_heads)[:, None]
    slabs = slab_index(pages, heads, kv_heads)
    assert sorted(slabs.ravel()) == list(range(num_slabs(num_pages, kv_heads)))
    assert num_slabs(num_pages - 1, kv_heads) == num_slabs(num_pages, kv_heads)


def test_pages_of_a_head_lie_side_by_side() -> None:
    slabs = slab_index(np.arange(PAGES_SIDE_BY_SIDE), 1, 3)
    assert (np.diff(slabs) == 1).all()


def test_pools() -> None:
    pools = kv_pool_shapes(SLOTS, num_pages=PAGES_SIDE_BY_SIDE, page_size=16)
    assert [(shape, str(dtype)) for shape, dtype in pools] == [
        ((2 * PAGES_SIDE_BY_SIDE, 8, 16), "uint16"),  # K: tokens in vector lanes
        ((2 * PAGES_SIDE_BY_SIDE, 16, 4), "uint16"),
        ((PAGES_SIDE_BY_SIDE, 16, 16), "float32"),
        ((PAGES_SIDE_BY_SIDE, 16, 16), "float32"),
    ]
    num_bytes = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in pools)
    assert num_bytes == PAGES_SIDE_BY_SIDE * kv_page_bytes(SLOTS, 16)
