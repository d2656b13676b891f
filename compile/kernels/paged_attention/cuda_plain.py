"""Paged attention one value at a time, in float32: one block for each token and query head.

A block walks the visible context `WARP` positions at a time with an online softmax. Scores: lane =
position, the warps share the dimensions of the head and add up in shared memory. Output: each
thread keeps its own dimensions of the value. Positions are cut at multiples of `WARP` from 0 on
and a row meets nothing of any other, so its bits do not depend on the batch.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import (
    LOWEST,
    WARP,
    Local,
    add,
    barrier,
    launch,
    let,
    reduce_warp,
    shared,
    strided,
)
from ingot.compile.kernels.paged_attention.cuda_tensors import Tensors, visible_range
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.vector_ir import (
    Expr,
    T,
    ceil_div,
    index,
    maximum,
    otherwise_if,
    widen,
)

WARPS = 4
THREADS = WARPS * WARP


def attend_plain(spec: PagedAttentionSpec, tensors: Tensors) -> None:
    """Emit the kernel."""
    n, b, size = tensors.n, tensors.b, spec.page_size
    heads, key_dim, value_dim = spec.num_heads, spec.key_dim, spec.value_dim
    owned = -(-value_dim // THREADS)  # value dimensions of one thread
    key_pool, value_pool = tensors.key_pool, tensors.value_pool
    query_offsets = tensors.query_offsets
    sinks, slopes, out = tensors.sinks, tensors.slopes, tensors.out
    with launch(n * heads, THREADS) as (block, thread):
        row = let(tirx.floordiv(block, heads), "int64")
        head = let(tirx.floormod(block, heads), "int64")
        kv_head = let(tirx.floordiv(head, spec.group), "int64")
        lane = tirx.floormod(thread, WARP)
        warp = tirx.floordiv(thread, WARP)
        found = Local(0, "int64")
        with T.serial(b) as s:
            with otherwise_if(index(query_offsets[s + 1]) <= row):
                found.set(s + 1)
        sequence = let(tirx.Min(found.value, b - 1), "int64")
        is_owned = let(tirx.Cast("int32", found.value < b), "int32")
        context = let(index(tensors.context_lengths[sequence]), "int64")
        new = index(query_offsets[sequence + 1]) - row
        position = let(context - new, "int64")
        begin, end = visible_range(spec, position, context)
        end = let(tirx.Select(is_owned == 1, end, index(0)), "int64")

        query = shared((key_dim,))
        with strided(thread, key_dim, THREADS) as d:
            T.buffer_store(query, tensors.query_value(spec, row, head, d), [d])
        partial, weights = shared((WARPS, WARP)), shared((WARP,))
        # Slopes count from the query, where the weights are large and their rounding shows.
        sink = None if sinks is None else sinks[head]
        if sink is not None and slopes is not None:
            sink = sink - slopes[head] * tirx.Cast("float32", position)
        largest = Local(LOWEST if sink is None else sink)
        total = Local(0.0 if sink is None else tirx.const(1.0, "float32"))
        outputs = [Local(0.0) for _ in range(owned)]
        barrier()
        first = let(tirx.floordiv(begin, WARP), "int64")
        with T.serial(tirx.Max(ceil_div(end, WARP) - first, index(0))) as step:
            start = let((first + step) * WARP, "int64")
            key_position = let(start + lane, "int64")
            sees = tirx.And(key_position >= begin, key_position < end)
            visible = let(tirx.Cast("int32", sees), "int32")
            known = let(tirx.Min(key_position, context - 1), "int64")
            slab = tensors.slab(spec, sequence, tirx.floordiv(known, size), kv_head)
            slot = let(tirx.floormod(known, size), "int64")
            score = Local(0.0)
            with strided(warp, key_dim, WARPS) as d:
                key = widen(key_pool[slab, d, slot], spec.kv_dtype, 1)
                score.set(score.value + query[d] * key)
            T.buffer_store(partial, score.value, [warp, lane])
            barrier()
            value = let(sum_of([partial[w, lane] for w in range(WARPS)]))
            if spec.softcap:
                cap = tirx.const(spec.softcap, "float32")
                value = tirx.tanh(value / cap) * cap
            if slopes is not None:
                distance = tirx.Cast("float32", key_position - position)
                value = value + slopes[head] * distance
            value = let(tirx.Select(visible == 1, value, tirx.const(LOWEST, "float32")))
            higher = let(maximum(largest.value, reduce_warp(value, tirx.Max)))
            zero = tirx.const(0.0, "float32")
            weight = let(tirx.Select(visible == 1, tirx.exp(value - higher), zero))
            shrink = let(tirx.exp(largest.value - higher))
            largest.set(higher)
            total.set(total.value * shrink + reduce_warp(weight, add))
            with otherwise_if(warp == 0):
                T.buffer_store(weights, weight, [lane])
            barrier()
            for output in outputs:
                output.set(output.value * shrink)
            with T.serial(index(WARP)) as other:
                at = let(start + other, "int64")
                # Slots beyond the context may hold anything, not-a-number included.
                with otherwise_if(tirx.And(at >= begin, at < end)):
                    slab_of = tensors.slab(spec, sequence, tirx.floordiv(at, size), kv_head)
                    slot_of = tirx.floormod(at, size)
                    for number, output in enumerate(outputs):
                        d = tirx.Min(thread + number * THREADS, index(value_dim - 1))
                        read = value_pool[slab_of, slot_of, d]
                        read = widen(read, spec.kv_dtype, 1)
                        output.set(output.value + weights[other] * read)
        with otherwise_if(is_owned == 1):
            for number, output in enumerate(outputs):
                d = thread + number * THREADS
                with otherwise_if(d < value_dim):
                    T.buffer_store(out, output.value / total.value, [row, head * value_dim + d])


def sum_of(terms: list[Expr]) -> Expr:
    """Added from left to right."""
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result
