"""A piece of a row of activations to one vector register, with zeros where the row has ended."""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index, load, splat


def load_padded(x: Buffer, row: Expr, k: Expr, inputs: int, lanes: int) -> Expr:
    """`lanes` values from input `k` on, of which the row has `inputs`: fewer, or even none."""
    if inputs >= lanes:
        return load(x, (row, k), lanes)
    if inputs <= 0:
        return splat(0.0, lanes)
    valid = tirx.Ramp(index(0), 1, lanes) < splat(index(inputs), lanes)
    loaded = T.masked_load(f"float32x{lanes}", x, row, tirx.Ramp(k, 1, lanes), valid)
    return tirx.Select(valid, loaded, splat(0.0, lanes))
