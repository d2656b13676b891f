"""The norms of `cpu.py` on a GPU: one block for each row of `width` columns."""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import (
    BLOCK_THREADS,
    WARP,
    BlockReducer,
    Local,
    launch,
    let,
    strided,
)
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.vector_ir import Expr, T, count, kernel
from ingot.targets import Target


def build(spec: NormSpec, target: Target) -> tirx.PrimFunc:
    """(x, [residual,] [weight,] [bias,] [sum,] out) -> nothing; writes sum and out."""
    n, width, rows = count("n"), spec.width, spec.rows_per_token
    total_width = rows * width
    weight_shape = (total_width if spec.weight_per_row else width,)
    threads = min(BLOCK_THREADS, -(-width // WARP) * WARP)
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

            def element(i: Expr) -> Expr:
                value = x[row, start + i + spec.column_offset]
                return value if residual is None else value + residual[row, start + i]

            mean: Expr = tirx.const(0.0, "float32")
            if spec.kind == "layer":
                partial = Local(0.0)
                with strided(thread, width, threads) as i:
                    partial.set(partial.value + element(i))
                mean = let(reducer.sum(partial.value) / float(width))
            partial = Local(0.0)
            with strided(thread, width, threads) as i:
                centred = let(element(i) - mean)
                partial.set(partial.value + centred * centred)
            variance = reducer.sum(partial.value) / float(width) + tirx.const(spec.eps, "float32")
            scale = let(tirx.const(1.0, "float32") / tirx.sqrt(variance))
            with strided(thread, width, threads) as i:
                found = let(element(i))
                if total is not None:
                    T.buffer_store(total, found, [row, start + i])
                value = (found - mean) * scale
                column = start + i if spec.weight_per_row else i
                if weight is not None:
                    value = value * weight[column]
                if bias is not None:
                    value = value + bias[column]
                T.buffer_store(out, value, [row, start + i])
    return k.function
