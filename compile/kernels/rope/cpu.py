"""Rotary position embedding: y = x*cos + turn(x)*sin over the first rotary_dim of each head.

x: [n, row_width] float32, heads side by side from `column_offset`; cos, sin: [n, cos_width];
out: [n, num_heads * head_dim]. Token by token, all heads, so that cos and sin stay in L1.
"""

from __future__ import annotations

from collections.abc import Iterator

from tvm import tirx

from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    T,
    count,
    fma,
    kernel,
    let,
    load,
    pieces,
    rows_in_parallel,
    splat,
    store,
)
from ingot.targets import Target


def rotate_head(
    spec: RopeSpec,
    target: Target,
    x: Buffer,
    cos: Buffer,
    sin: Buffer,
    row: Expr,
    column: Expr,
) -> Iterator[tuple[int, int, Expr]]:
    """Yield (offset, lanes, value) that together are one rotated head x[row, column:]."""
    turn = _turn_pairs if spec.interleaved else _turn_halves
    yield from turn(spec, target, x, cos, sin, row, column)
    for offset, lanes in pieces(spec.head_dim - spec.rotary_dim, target.float32_lanes):
        offset += spec.rotary_dim
        yield offset, lanes, load(x, (row, column + offset), lanes)


def _turn_halves(
    spec: RopeSpec, target: Target, x: Buffer, cos: Buffer, sin: Buffer, row: Expr, column: Expr
) -> Iterator[tuple[int, int, Expr]]:
    half = spec.rotary_dim // 2
    second = half if spec.cos_width == spec.rotary_dim else 0  # where the second half's cos is
    for offset, lanes in pieces(half, target.float32_lanes):
        low = let(load(x, (row, column + offset), lanes), lanes)
        high = let(load(x, (row, column + (offset + half)), lanes), lanes)
        c = load(cos, (row, offset), lanes)
        s = load(sin, (row, offset), lanes)
        yield offset, lanes, fma(low, c, splat(0.0, lanes) - high * s, lanes)
        c = load(cos, (row, offset + second), lanes)
        s = load(sin, (row, offset + second), lanes)
        yield offset + half, lanes, fma(high, c, low * s, lanes)


def _turn_pairs(
    spec: RopeSpec, target: Target, x: Buffer, cos: Buffer, sin: Buffer, row: Expr, column: Expr
) -> Iterator[tuple[int, int, Expr]]:
    def angles(buffer: Buffer, offset: int, lanes: int) -> Expr:
        if spec.cos_width == spec.rotary_dim:
            return load(buffer, (row, offset), lanes)
        narrow = load(buffer, (row, offset // 2), lanes // 2)
        return tirx.Shuffle([narrow, narrow], [lane // 2 for lane in range(lanes)])

    for offset, lanes in pieces(spec.rotary_dim, target.float32_lanes):
        pair = let(load(x, (row, column + offset), lanes), lanes)
        swapped = tirx.Shuffle([pair], [lane ^ 1 for lane in range(lanes)])
        signs = [tirx.const(1.0 if lane % 2 else -1.0, "float32") for lane in range(lanes)]
        turned = swapped * tirx.Shuffle(signs, list(range(lanes)))
        s = turned * angles(sin, offset, lanes)
        yield offset, lanes, fma(pair, angles(cos, offset, lanes), s, lanes)


def build(spec: RopeSpec, target: Target) -> tirx.PrimFunc:
    """(x, cos, sin, out) -> nothing; writes out."""
    n = count("n")
    width = spec.num_heads * spec.head_dim
    with kernel("rope") as k:
        x = k.argument("x", (n, spec.row_width))
        cos = k.argument("cos", (n, spec.cos_width))
        sin = k.argument("sin", (n, spec.cos_width))
        out = k.argument("out", (n, width))

        def rotate_row(row: Expr) -> None:
            with T.serial(spec.num_heads) as head:
                start = head * spec.head_dim
                column = start + spec.column_offset
                for offset, lanes, value in rotate_head(spec, target, x, cos, sin, row, column):
                    store(out, (row, start + offset), value, lanes)

        rows_in_parallel(n, width, rotate_row)
    return k.function
