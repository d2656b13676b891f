"""RMSNorm: y = x / sqrt(mean(x^2) + eps) * w; LayerNorm: that of x - mean(x), plus b.

x: [n, row_width] float32, of which each token's `rows_per_token` rows of `width` columns from
`column_offset` are normed one by one (one row: a hidden state; many: the heads of a q-norm).
With `residual` the sum x + residual is written too and is what gets normed. A row stays in L1
between the passes over it.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.vector_ir import (
    NUM_CHAINS,
    Expr,
    accumulate_row,
    count,
    fma,
    for_pieces,
    kernel,
    let,
    load,
    rows_in_parallel,
    serial_or_once,
    splat,
    store,
)
from ingot.targets import Target


def build(spec: NormSpec, target: Target) -> tirx.PrimFunc:
    """(x, [residual,] [weight,] [bias,] [sum,] out) -> nothing; writes sum and out."""
    n = count("n")
    width, lanes = spec.width, target.float32_lanes
    total_width = spec.rows_per_token * width
    weight_shape = (total_width if spec.weight_per_row else width,)
    with kernel(f"{spec.kind}_norm") as k:
        x = k.argument("x", (n, spec.row_width))
        residual = k.argument("residual", (n, total_width)) if spec.residual else None
        weight = k.argument("weight", weight_shape) if spec.has_weight else None
        bias = k.argument("bias", weight_shape) if spec.has_bias else None
        total = k.argument("sum", (n, total_width)) if spec.residual else None
        out = k.argument("out", (n, total_width))

        def norm_row(row: Expr) -> None:
            with serial_or_once(spec.rows_per_token) as head:
                norm_one(row, head * width)

        def norm_one(row: Expr, start: Expr) -> None:
            def element(offset: Expr, lanes: int) -> Expr:
                if total is not None:
                    return load(total, (row, start + offset), lanes)
                return load(x, (row, start + offset + spec.column_offset), lanes)

            if residual is not None:

                def add(offset: Expr, lanes: int, _: int) -> None:
                    column = start + offset
                    value = load(x, (row, column + spec.column_offset), lanes)
                    value = value + load(residual, (row, column), lanes)
                    store(total, (row, column), value, lanes)

                for_pieces(width, lanes, NUM_CHAINS, add)

            mean = None
            if spec.kind == "layer":
                mean = let(
                    accumulate_row(width, lanes, lambda o, n, acc: acc + element(o, n))
                    / float(width),
                    1,
                )

            def centred(offset: Expr, lanes: int) -> Expr:
                value = element(offset, lanes)
                return value if mean is None else let(value - splat(mean, lanes), lanes)

            def add_square(offset: Expr, lanes: int, accumulator: Expr) -> Expr:
                value = let(centred(offset, lanes), lanes)
                return fma(value, value, accumulator, lanes)

            squares = accumulate_row(width, lanes, add_square)
            variance = squares / float(width) + tirx.const(spec.eps, "float32")
            scale = let(tirx.const(1.0, "float32") / tirx.sqrt(variance), 1)

            def parameter(buffer: Expr, offset: Expr, lanes: int) -> Expr:
                column = start + offset if spec.weight_per_row else offset
                return load(buffer, (column,), lanes)

            def write(offset: Expr, lanes: int, _: int) -> None:
                value = centred(offset, lanes) * splat(scale, lanes)
                if weight is not None:
                    value = value * parameter(weight, offset, lanes)
                if bias is not None:
                    value = value + parameter(bias, offset, lanes)
                store(out, (row, start + offset), value, lanes)

            for_pieces(width, lanes, NUM_CHAINS, write)

        rows_in_parallel(n, total_width, norm_row)
    return k.function
