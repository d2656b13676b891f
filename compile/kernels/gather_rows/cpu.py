"""out[i, :] = x[rows[i], :], so that only the rows that want logits reach the vocabulary matmul.

x: [n, width] float32; rows: [m] int32, each in [0, n), which the caller has checked;
out: [m, width] float32.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.gather_rows.spec import GatherRowsSpec
from ingot.compile.kernels.vector_ir import (
    Expr,
    count,
    for_pieces,
    index,
    kernel,
    let,
    load,
    rows_in_parallel,
    store,
)
from ingot.targets import Target

UNROLL = 4


def build(spec: GatherRowsSpec, target: Target) -> tirx.PrimFunc:
    """(x, rows, out) -> nothing; writes out."""
    n, m = count("n"), count("m")
    with kernel("gather_rows") as k:
        x = k.argument("x", (n, spec.width))
        rows = k.argument("rows", (m,), "int32")
        out = k.argument("out", (m, spec.width))

        def copy_row(row: Expr) -> None:
            source = let(index(rows[row]), 1, "int64")

            def copy(offset: Expr, lanes: int, _: int) -> None:
                store(out, (row, offset), load(x, (source, offset), lanes), lanes)

            for_pieces(spec.width, target.float32_lanes, UNROLL, copy)

        rows_in_parallel(m, spec.width, copy_row)
    return k.function
