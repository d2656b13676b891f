"""The spans of a split context to one output: weighted by what their maxima are apart."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from ingot.compile.kernels.cuda_ir import LOWEST, WARP, Local, launch, let, strided
from ingot.compile.kernels.paged_attention.cuda_tensors import Tensors, visible_range
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.vector_ir import T, index, maximum, otherwise_if


def combine(spec: PagedAttentionSpec, tensors: Tensors, span_tokens: int, partials: Any) -> None:
    """Emit the kernel: one block for each row and head, spans always in the same order."""
    heads, width = spec.num_heads, spec.value_dim
    threads = min(256, -(-width // WARP) * WARP)
    with launch(tensors.n * heads, threads) as (block, thread):
        row = let(tirx.floordiv(block, heads), "int64")
        head = let(tirx.floormod(block, heads), "int64")
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
            first = let(tirx.floordiv(begin, span_tokens), "int64")
            last = let(tirx.floordiv(end + (span_tokens - 1), span_tokens), "int64")
            largest = Local(LOWEST)
            if tensors.sinks is not None:
                sink = tensors.sinks[head]
                if tensors.slopes is not None:
                    sink = sink - tensors.slopes[head] * tirx.Cast("float32", position)
                sink = let(sink)
                largest.set(sink)
            with T.serial(last - first) as step:
                largest.set(maximum(largest.value, partials.largest[block, first + step]))
            total = Local(0.0)
            if tensors.sinks is not None:
                total.set(tirx.exp(sink - largest.value))
            with T.serial(last - first) as step:
                weight = tirx.exp(partials.largest[block, first + step] - largest.value)
                total.set(total.value + weight * partials.totals[block, first + step])
            with strided(thread, width, threads) as d:
                output = Local(0.0)
                with T.serial(last - first) as step:
                    weight = tirx.exp(partials.largest[block, first + step] - largest.value)
                    part = partials.outputs[block, first + step, d]
                    output.set(output.value + weight * part)
                T.buffer_store(tensors.out, output.value / total.value, [row, head * width + d])
