"""out[i, :] = x[rows[i], :], so that only the rows that want logits reach the vocabulary matmul.

x: [n, width] float32; rows: [m], each in [0, n), which the caller has checked; out: [m, width].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm import tirx

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


@dataclass(frozen=True, slots=True)
class GatherRowsSpec:
    width: int
    rows_dtype: Literal["int32", "int64"] = "int32"


def build(spec: GatherRowsSpec, target: Target) -> tirx.PrimFunc:
    """(x, rows, out) -> nothing; writes out."""
    n, m = count("n"), count("m")
    with kernel("gather_rows") as k:
        x = k.argument("x", (n, spec.width))
        rows = k.argument("rows", (m,), spec.rows_dtype)
        out = k.argument("out", (m, spec.width))

        def copy_row(row: Expr) -> None:
            source = let(index(rows[row]), 1, "int64")

            def copy(offset: Expr, lanes: int, _: int) -> None:
                store(out, (row, offset), load(x, (source, offset), lanes), lanes)

            for_pieces(spec.width, target.float32_lanes, UNROLL, copy)

        rows_in_parallel(m, spec.width, copy_row)
    return k.function
