"""The spans of a split context to one output: weighted by what their maxima are apart.

A block adds up one row and head. Its threads are `GROUPS` times the dimensions of the value: each
group takes every so many spans, so that several of them are read at once.
"""

from __future__ import annotations

from typing import Any

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
from ingot.compile.kernels.paged_attention.cuda_shape import MOST_SPANS, Spans
from ingot.compile.kernels.paged_attention.cuda_tensors import Tensors, visible_range
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.vector_ir import Expr, T, index, maximum, otherwise_if

GROUPS = 4
MOST_COLUMNS = 256  # that have a thread of their own in a group


def combine(spec: PagedAttentionSpec, tensors: Tensors, cut: Spans, partials: Any) -> None:
    """Emit the kernel: one block for each row and head, spans always in the same order."""
    heads, width = spec.num_heads, spec.value_dim
    columns = min(MOST_COLUMNS, -(-width // WARP) * WARP)
    with launch(tensors.n * heads, GROUPS * columns) as (block, thread):
        row = let(tirx.floordiv(block, heads), "int64")
        head = let(tirx.floormod(block, heads), "int64")
        weights, parts = shared((MOST_SPANS,)), shared((GROUPS, width))
        found = Local(0, "int64")
        with T.serial(tensors.b) as s:
            with otherwise_if(index(tensors.query_offsets[s + 1]) <= row):
                found.set(s + 1)
        with otherwise_if(found.value < tensors.b):
            sequence = let(found.value, "int64")
            context = let(index(tensors.context_lengths[sequence]), "int64")
            position = context - index(tensors.query_offsets[sequence + 1]) + row
            position = let(position, "int64")
            begin, end = visible_range(spec, position, context)
            length = let(cut.length(context), "int64")
            first = let(tirx.floordiv(begin, length), "int64")
            count = let(tirx.floordiv(end + (length - 1), length) - first, "int64")
            sink = _sink(tensors, head, position)
            # Every warp for itself: its lanes share the spans.
            lane = tirx.floormod(thread, WARP)
            largest = Local(LOWEST if sink is None else sink)
            with strided(lane, count, WARP) as span:
                largest.set(maximum(largest.value, partials.largest[block, first + span]))
            highest = let(reduce_warp(largest.value, maximum))
            total = Local(0.0)
            with strided(lane, count, WARP) as span:
                weight = let(tirx.exp(partials.largest[block, first + span] - highest))
                total.set(total.value + weight * partials.totals[block, first + span])
                with otherwise_if(thread < WARP):
                    T.buffer_store(weights, weight, [tirx.floormod(span, MOST_SPANS)])
            whole = let(reduce_warp(total.value, add))
            if sink is not None:
                whole = let(whole + tirx.exp(sink - highest))
            barrier()
            group = let(tirx.floordiv(thread, columns), "int64")
            column = tirx.floormod(thread, columns)
            with strided(column, width, columns) as d:
                output = Local(0.0)
                with strided(group, count, GROUPS) as span:
                    part = partials.outputs[block, first + span, d]
                    weight = weights[tirx.floormod(span, MOST_SPANS)]
                    output.set(output.value + weight * part)
                T.buffer_store(parts, output.value, [tirx.floordiv(thread, columns), d])
            barrier()
            with strided(thread, width, GROUPS * columns) as d:
                sums = [parts[other, d] for other in range(GROUPS)]
                value = (sums[0] + sums[1]) + (sums[2] + sums[3])
                T.buffer_store(tensors.out, value / whole, [row, head * width + d])


def _sink(tensors: Tensors, head: Expr, position: Expr) -> Expr | None:
    """The score of the key without a value."""
    if tensors.sinks is None:
        return None
    sink = tensors.sinks[head]
    if tensors.slopes is not None:
        sink = sink - tensors.slopes[head] * tirx.Cast("float32", position)
    return let(sink)
