"""Write the new tokens' keys and values into their pages, in place.

With page, offset = divmod(slots[token], page_size) and the slab of (page, head):
key_pool[slab, :, offset] = key[token, head, :] (K is transposed within a slab);
value_pool[slab, offset, :] = value[token, head, :].
Where attention multiplies pairs (`has_pairs`), both pools hold pairs. A slot of -1 is skipped.
Casts round to nearest even. With `rope` the key is rotated on its way.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.kv_write.spec import KvWriteSpec
from ingot.compile.kernels.paged_attention.spec import has_pairs
from ingot.compile.kernels.rope.cpu import rotate_head
from ingot.compile.kernels.vector_ir import (
    Expr,
    Register,
    T,
    count,
    index,
    kernel,
    let,
    load,
    narrow,
    otherwise_if,
    pieces,
    pool_dtype,
    rows_in_parallel,
    store,
)
from ingot.runtime.artifact.kv_layout import slab_index
from ingot.targets import Target


def build(spec: KvWriteSpec, target: Target) -> tirx.PrimFunc:
    """(key, value, slots, [cos, sin,] key_pool, value_pool) -> nothing; updates the pools."""
    n, slabs = count("n"), count("num_slabs")
    dtype = pool_dtype(spec.kv_dtype)
    heads, page_size = spec.kv_heads, spec.page_size
    pairs = has_pairs(spec.kv_dtype, spec.key_dim, spec.value_dim, target)
    with kernel("kv_write") as k:
        key = k.argument("key", (n, spec.key_row_width))
        value = k.argument("value", (n, spec.value_row_width))
        slots = k.argument("slots", (n,), "int32")
        if spec.rope:
            cos = k.argument("cos", (n, spec.rope.cos_width))
            sin = k.argument("sin", (n, spec.rope.cos_width))
        key_pool = k.argument("key_pool", (slabs, spec.key_dim, page_size), dtype)
        value_pool = k.argument("value_pool", (slabs, page_size, spec.value_dim), dtype)

        def write_row(row: Expr) -> None:
            slot = let(index(slots[row]), 1, "int64")
            with otherwise_if(slot >= 0), T.serial(heads) as head:
                slab = let(slab_index(tirx.floordiv(slot, page_size), head, heads), 1, "int64")
                offset = let(tirx.floormod(slot, page_size), 1, "int64")
                column = head * spec.key_dim + spec.key_column_offset
                if spec.rope:
                    rotated = rotate_head(spec.rope, target, key, cos, sin, row, column)
                else:
                    rotated = (
                        (start, lanes, load(key, (row, column + start), lanes))
                        for start, lanes in pieces(spec.key_dim, target.float32_lanes)
                    )
                for start, lanes, vector in rotated:
                    cast = Register(lanes, narrow(vector, spec.kv_dtype, lanes), dtype)
                    for lane in range(lanes):  # one column of the page: a stride of page_size
                        d = start + lane
                        where = [d - d % 2, 2 * offset + d % 2] if pairs else [d, offset]
                        T.buffer_store(key_pool, cast.lane(lane), [slab, *where])
                column = head * spec.value_dim + spec.value_column_offset
                for start, lanes in pieces(spec.value_dim, target.float32_lanes):
                    vector = load(value, (row, column + start), lanes)
                    narrowed = narrow(vector, spec.kv_dtype, lanes)
                    if pairs:
                        odd = tirx.floormod(offset, 2)
                        column_of_pair = tirx.Ramp(2 * start + odd, 2, lanes)
                        where = [slab, offset - odd, column_of_pair]
                        T.buffer_store(value_pool, narrowed, where)
                    else:
                        store(value_pool, (slab, offset, start), narrowed, lanes)

        rows_in_parallel(n, heads * (spec.key_dim + spec.value_dim), write_row)
    return k.function
