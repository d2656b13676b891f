"""RMSNorm: y = x / sqrt(mean(x^2) + eps) * w; LayerNorm: that of x - mean(x), plus b.

x: [n, row_width] float32, of which each token's `rows_per_token` rows of `width` columns from
`column_offset` are normed one by one (one row: a hidden state; many: the heads of a q-norm).
With `residual` the sum x + residual is written too and is what gets normed. A row stays in L1
between the passes over it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.vector_ir import (
    NUM_CHAINS,
    Buffer,
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
    width = spec.rows_per_token * spec.width
    weight_shape = (width if spec.weight_per_row else spec.width,)
    with kernel(f"{spec.kind}_norm") as k:
        x = k.argument("x", (n, spec.row_width))
        residual = k.argument("residual", (n, width)) if spec.residual else None
        weight = k.argument("weight", weight_shape) if spec.has_weight else None
        bias = k.argument("bias", weight_shape) if spec.has_bias else None
        total = k.argument("sum", (n, width)) if spec.residual else None
        out = k.argument("out", (n, width))
        norm = _Norm(spec, target.float32_lanes, x, residual, weight, bias, total, out)
        rows_in_parallel(n, width, norm.emit_token)
    return k.function


@dataclass(frozen=True, slots=True)
class _Norm:
    """A kernel's buffers, and the passes over a row, from whose first column `start` they count."""

    spec: NormSpec
    lanes: int
    x: Buffer
    residual: Buffer | None
    weight: Buffer | None
    bias: Buffer | None
    total: Buffer | None
    out: Buffer

    def emit_token(self, token: Expr) -> None:
        with serial_or_once(self.spec.rows_per_token) as row:
            start = row * self.spec.width
            if self.residual is not None:
                self.add_residual(token, start)
            mean = self.mean(token, start) if self.spec.kind == "layer" else None
            self.write(token, start, mean, self.scale(token, start, mean))

    def add_residual(self, token: Expr, start: Expr) -> None:
        def add(offset: Expr, lanes: int, _: int) -> None:
            column = start + offset
            value = load(self.x, (token, column + self.spec.column_offset), lanes)
            value = value + load(self.residual, (token, column), lanes)
            store(self.total, (token, column), value, lanes)

        for_pieces(self.spec.width, self.lanes, NUM_CHAINS, add)

    def mean(self, token: Expr, start: Expr) -> Expr:
        def add(offset: Expr, lanes: int, accumulator: Expr) -> Expr:
            return accumulator + self.centred(token, start + offset, lanes, None)

        total = accumulate_row(self.spec.width, self.lanes, add)
        return let(total / float(self.spec.width), 1)

    def scale(self, token: Expr, start: Expr, mean: Expr | None) -> Expr:
        def add_square(offset: Expr, lanes: int, accumulator: Expr) -> Expr:
            value = let(self.centred(token, start + offset, lanes, mean), lanes)
            return fma(value, value, accumulator, lanes)

        squares = accumulate_row(self.spec.width, self.lanes, add_square)
        variance = squares / float(self.spec.width) + tirx.const(self.spec.eps, "float32")
        return let(tirx.const(1.0, "float32") / tirx.sqrt(variance), 1)

    def write(self, token: Expr, start: Expr, mean: Expr | None, scale: Expr) -> None:
        def write_piece(offset: Expr, lanes: int, _: int) -> None:
            column = start + offset
            factor_column = column if self.spec.weight_per_row else offset
            value = self.centred(token, column, lanes, mean) * splat(scale, lanes)
            if self.weight is not None:
                value = value * load(self.weight, (factor_column,), lanes)
            if self.bias is not None:
                value = value + load(self.bias, (factor_column,), lanes)
            store(self.out, (token, column), value, lanes)

        for_pieces(self.spec.width, self.lanes, NUM_CHAINS, write_piece)

    def centred(self, token: Expr, column: Expr, lanes: int, mean: Expr | None) -> Expr:
        """What is normed at a column, less the row's mean where there is one."""
        if self.total is not None:
            value = load(self.total, (token, column), lanes)
        else:
            value = load(self.x, (token, column + self.spec.column_offset), lanes)
        return value if mean is None else let(value - splat(mean, lanes), lanes)
