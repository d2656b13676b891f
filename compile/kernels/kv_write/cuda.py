"""The K/V write of `cpu.py` on a GPU: one block a token, its threads side by side in the heads."""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import BLOCK_THREADS, launch, let, narrow, strided
from ingot.compile.kernels.kv_write.spec import KvWriteSpec
from ingot.compile.kernels.rope.cuda import rotated
from ingot.compile.kernels.vector_ir import T, count, index, kernel, otherwise_if, pool_dtype
from ingot.runtime.artifact.kv_layout import slab_index
from ingot.targets import Target


def build(spec: KvWriteSpec, target: Target) -> tirx.PrimFunc:
    """(key, value, slots, [cos, sin,] key_pool, value_pool) -> nothing; updates the pools."""
    n, slabs = count("n"), count("num_slabs")
    dtype = pool_dtype(spec.kv_dtype)
    heads, page_size, key_dim, value_dim = (
        spec.kv_heads,
        spec.page_size,
        spec.key_dim,
        spec.value_dim,
    )
    with kernel("kv_write") as k:
        key = k.argument("key", (n, spec.key_row_width))
        value = k.argument("value", (n, spec.value_row_width))
        slots = k.argument("slots", (n,), "int32")
        if spec.rope:
            cos = k.argument("cos", (n, spec.rope.cos_width))
            sin = k.argument("sin", (n, spec.rope.cos_width))
        key_pool = k.argument("key_pool", (slabs, key_dim, page_size), dtype)
        value_pool = k.argument("value_pool", (slabs, page_size, value_dim), dtype)
        with launch(n, BLOCK_THREADS) as (row, thread):
            slot = let(index(slots[row]), "int64")
            with otherwise_if(slot >= 0):
                page = let(tirx.floordiv(slot, page_size), "int64")
                offset = let(tirx.floormod(slot, page_size), "int64")
                with strided(thread, heads * key_dim, BLOCK_THREADS) as i:
                    head, d = tirx.floordiv(i, key_dim), tirx.floormod(i, key_dim)
                    if spec.rope:
                        column = head * key_dim + spec.key_column_offset
                        element = rotated(spec.rope, key, cos, sin, row, column, d)
                    else:
                        element = key[row, i + spec.key_column_offset]
                    stored = narrow(let(element), spec.kv_dtype)
                    T.buffer_store(key_pool, stored, [slab_index(page, head, heads), d, offset])
                with strided(thread, heads * value_dim, BLOCK_THREADS) as i:
                    head, d = tirx.floordiv(i, value_dim), tirx.floormod(i, value_dim)
                    stored = narrow(let(value[row, i + spec.value_column_offset]), spec.kv_dtype)
                    T.buffer_store(value_pool, stored, [slab_index(page, head, heads), offset, d])
    return k.function
