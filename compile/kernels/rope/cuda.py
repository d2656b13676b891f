"""The rotary embedding of `cpu.py` on a GPU: one thread an element."""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import for_elements, let
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, count, kernel
from ingot.targets import Target


def rotated(
    spec: RopeSpec, x: Buffer, cos: Buffer, sin: Buffer, row: Expr, column: Expr, d: Expr
) -> Expr:
    """Element `d` of the rotated head x[row, column:]."""
    one = tirx.const(1.0, "float32")
    if spec.interleaved:
        is_first = tirx.floormod(d, 2) == 0
        partner = d + 1 - tirx.floormod(d, 2) * 2
        narrow = tirx.floordiv(d, 2)
    else:
        half = spec.rotary_dim // 2
        is_first = d < half
        partner = tirx.Select(is_first, d + half, d - half)
        narrow = tirx.floormod(d, half)
    angle = d if spec.cos_width == spec.rotary_dim else narrow
    turned = x[row, column + partner] * tirx.Select(is_first, -one, one)
    value = x[row, column + d] * cos[row, angle] + turned * sin[row, angle]
    if spec.rotary_dim == spec.head_dim:
        return value
    return tirx.if_then_else(d < spec.rotary_dim, value, x[row, column + d])


def build(spec: RopeSpec, target: Target) -> tirx.PrimFunc:
    """(x, cos, sin, out) -> nothing; writes out."""
    n, width = count("n"), spec.num_heads * spec.head_dim
    with kernel("rope") as k:
        x = k.argument("x", (n, spec.row_width))
        cos = k.argument("cos", (n, spec.cos_width))
        sin = k.argument("sin", (n, spec.cos_width))
        out = k.argument("out", (n, width))

        def rotate(i: Expr) -> None:
            row = let(tirx.floordiv(i, width), "int64")
            column = let(tirx.floormod(i, width), "int64")
            d = let(tirx.floormod(column, spec.head_dim), "int64")
            value = rotated(spec, x, cos, sin, row, column - d + spec.column_offset, d)
            T.buffer_store(out, value, [row, column])

        for_elements(n * width, rotate)
    return k.function
