"""The norms of `cpu.py` on a GPU: one block for each row of `width` columns.

A thread loads all that it needs, its columns, their residual, weights and biases, before the first
sum: a row waits for memory once and is read once.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP, BlockReducer, Local, launch, let
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.vector_ir import Expr, T, count, kernel, otherwise_if
from ingot.targets import Target

COLUMNS_PER_THREAD = 4  # or as many more as the largest block makes it


def build(spec: NormSpec, target: Target) -> tirx.PrimFunc:
    """(x, [residual,] [weight,] [bias,] [sum,] out) -> nothing; writes sum and out."""
    n, width, rows = count("n"), spec.width, spec.rows_per_token
    total_width = rows * width
    weight_shape = (total_width if spec.weight_per_row else width,)
    threads = -(-width // (COLUMNS_PER_THREAD * WARP)) * WARP
    threads = min(threads, target.max_threads_per_block)
    zero = tirx.const(0.0, "float32")
    with kernel(f"{spec.kind}_norm") as k:
        x = k.argument("x", (n, spec.row_width))
        residual = k.argument("residual", (n, total_width)) if spec.residual else None
        weight = k.argument("weight", weight_shape) if spec.has_weight else None
        bias = k.argument("bias", weight_shape) if spec.has_bias else None
        total = k.argument("sum", (n, total_width)) if spec.residual else None
        out = k.argument("out", (n, total_width))
        with launch(n * rows, threads) as (block, thread):
            reducer = BlockReducer(thread, threads)
            row = let(tirx.floordiv(block, rows), "int64")
            start = let(tirx.floormod(block, rows) * width, "int64")

            columns = []  # (column, whether there is one, its value, its weight, its bias)
            for part in range(-(-width // threads)):
                column = let(part * threads + thread, "int64")
                exists = column < width
                value = x[row, start + column + spec.column_offset]
                if residual is not None:
                    value = value + residual[row, start + column]
                place = start + column if spec.weight_per_row else column
                factors = [
                    None if buffer is None else let(tirx.if_then_else(exists, buffer[place], zero))
                    for buffer in (weight, bias)
                ]
                columns.append(
                    (column, exists, let(tirx.if_then_else(exists, value, zero)), *factors)
                )

            def mean_of(values: list[Expr]) -> Expr:
                partial = Local(0.0)
                for value in values:
                    partial.set(partial.value + value)
                return reducer.sum(partial.value) / float(width)

            mean: Expr = zero
            if spec.kind == "layer":
                mean = let(mean_of([value for _, _, value, _, _ in columns]))
            centred = [
                let(tirx.Select(exists, value - mean, zero)) for _, exists, value, _, _ in columns
            ]
            variance = mean_of([value * value for value in centred])
            scale = let(
                tirx.const(1.0, "float32") / tirx.sqrt(variance + tirx.const(spec.eps, "float32"))
            )
            for (column, exists, found, factor, offset), value in zip(
                columns, centred, strict=True
            ):
                with otherwise_if(exists):
                    if total is not None:
                        T.buffer_store(total, found, [row, start + column])
                    normed = value * scale
                    if factor is not None:
                        normed = normed * factor
                    if offset is not None:
                        normed = normed + offset
                    T.buffer_store(out, normed, [row, start + column])
    return k.function
