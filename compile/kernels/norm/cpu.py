"""RMSNorm: y = x / sqrt(mean(x^2) + eps) * (offset + w); LayerNorm: that of x - mean(x), plus b.

x: [n, row_width] float32, of which each token's `rows_per_token` rows of `width` columns from
`column_offset` are normed one by one (one row: a hidden state; many: the heads of a q-norm).
With `residual` the sum x + residual is written too and is what gets normed. A row stays in L1
between the passes over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm import tirx

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
    pool_dtype,
    rows_in_parallel,
    serial_or_once,
    splat,
    store,
    widen,
)
from ingot.targets import Target


@dataclass(frozen=True, slots=True)
class NormSpec:
    """weight and bias are [width], or [rows_per_token * width] with `weight_per_row`."""

    kind: Literal["rms", "layer"]
    width: int
    eps: float
    has_weight: bool = True
    has_bias: bool = False
    weight_offset: float = 0.0
    residual: bool = False
    rows_per_token: int = 1
    row_width: int = 0
    column_offset: int = 0
    weight_per_row: bool = False
    weight_dtype: str = "float32"

    def __post_init__(self) -> None:
        if not self.row_width:
            object.__setattr__(self, "row_width", self.rows_per_token * self.width)
        assert self.kind in ("rms", "layer"), self
        assert self.column_offset + self.rows_per_token * self.width <= self.row_width, self


def build(spec: NormSpec, target: Target) -> tirx.PrimFunc:
    """(x, [residual,] [weight,] [bias,] [sum,] out) -> nothing; writes sum and out."""
    n = count("n")
    width, lanes = spec.width, target.float32_lanes
    total_width = spec.rows_per_token * width
    weight_shape = (total_width if spec.weight_per_row else width,)
    weight_type = pool_dtype(spec.weight_dtype)
    with kernel(f"{spec.kind}_norm") as k:
        x = k.argument("x", (n, spec.row_width))
        residual = k.argument("residual", (n, total_width)) if spec.residual else None
        weight = k.argument("weight", weight_shape, weight_type) if spec.has_weight else None
        bias = k.argument("bias", weight_shape, weight_type) if spec.has_bias else None
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
                return widen(load(buffer, (column,), lanes), spec.weight_dtype, lanes)

            def write(offset: Expr, lanes: int, _: int) -> None:
                value = centred(offset, lanes) * splat(scale, lanes)
                if weight is not None:
                    factor = parameter(weight, offset, lanes)
                    if spec.weight_offset:
                        factor = factor + splat(spec.weight_offset, lanes)
                    value = value * factor
                if bias is not None:
                    value = value + parameter(bias, offset, lanes)
                store(out, (row, start + offset), value, lanes)

            for_pieces(width, lanes, NUM_CHAINS, write)

        rows_in_parallel(n, total_width, norm_row)
    return k.function
