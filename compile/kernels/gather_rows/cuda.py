"""The row gather of `cpu.py` on a GPU: one thread an element."""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import for_elements, let
from ingot.compile.kernels.gather_rows.spec import GatherRowsSpec
from ingot.compile.kernels.vector_ir import Expr, T, count, index, kernel
from ingot.targets import Target


def build(spec: GatherRowsSpec, target: Target) -> tirx.PrimFunc:
    """(x, rows, out) -> nothing; writes out."""
    n, m, width = count("n"), count("m"), spec.width
    with kernel("gather_rows") as k:
        x = k.argument("x", (n, width))
        rows = k.argument("rows", (m,), "int32")
        out = k.argument("out", (m, width))

        def copy(i: Expr) -> None:
            row = let(tirx.floordiv(i, width), "int64")
            column = let(tirx.floormod(i, width), "int64")
            T.buffer_store(out, x[index(rows[row]), column], [row, column])

        for_elements(m * width, copy)
    return k.function
