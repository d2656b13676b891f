"""out[n, N] = x[n, K] @ weight.T in float32, as it is: what tensor cores would round.

Few rows: a warp reads one weight row, its lanes side by side, for up to `ROWS_PER_WARP` rows of x,
so that weights are read close to once. Many rows: a block computes a tile of `TILE` x `TILE` out of
shared memory, `TILE_K` inputs at a time, each of its threads a square of `SIDE` x `SIDE` sums.
The two add in different orders: the same row may differ in its last bits between them.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ingot.compile.kernels.cuda_ir import (
    BLOCK_THREADS,
    WARP,
    Local,
    add,
    barrier,
    launch,
    let,
    reduce_warp,
    shared,
    strided,
)
from ingot.compile.kernels.matmul.spec import LinearSpec
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    T,
    ceil_div,
    index,
    minimum,
    otherwise_if,
)

SMALL_ROWS = 16  # up to here a warp a column; a tile would be mostly empty
ROWS_PER_WARP = 4
TILE, TILE_K, SIDE = 64, 16, 4
WARPS = BLOCK_THREADS // WARP

Weight = Callable[[Expr, Expr], Expr]
"""(output feature, input feature) -> the float32 weight."""


Write = Callable[[Expr, Expr, Expr], None]
"""(row, output feature, sum) -> nothing; stores it with the bias."""


def multiply_plain(spec: LinearSpec, n: Expr, x: Buffer, weight: Weight, write: Write) -> None:
    """Emit both kernels and the choice between them."""
    with T.If(n <= SMALL_ROWS):
        with T.Then():
            _few_rows(spec, n, x, weight, write)
        with T.Else():
            _many_rows(spec, n, x, weight, write)


def _few_rows(spec: LinearSpec, n: Expr, x: Buffer, weight: Weight, write: Write) -> None:
    columns = index(-(-spec.out_features // WARPS))
    with launch(columns, BLOCK_THREADS, ceil_div(n, ROWS_PER_WARP)) as (block, band, thread):
        lane = tirx.floormod(thread, WARP)
        column = let(block * WARPS + tirx.floordiv(thread, WARP), "int64")
        with otherwise_if(column < spec.out_features):
            rows = [let(band * ROWS_PER_WARP + r, "int64") for r in range(ROWS_PER_WARP)]
            sums = [Local(0.0) for _ in rows]
            with strided(lane, spec.in_features, WARP) as i:
                w = let(weight(column, i))
                for row, total in zip(rows, sums, strict=True):
                    total.set(total.value + w * x[minimum(row, n - 1), i])
            for row, total in zip(rows, sums, strict=True):
                value = reduce_warp(total.value, add)
                with otherwise_if(tirx.And(lane == 0, row < n)):
                    write(row, column, value)


def _many_rows(spec: LinearSpec, n: Expr, x: Buffer, weight: Weight, write: Write) -> None:
    columns, inputs = spec.out_features, spec.in_features
    zero = tirx.const(0.0, "float32")
    grid = index(-(-columns // TILE))
    with launch(grid, BLOCK_THREADS, ceil_div(n, TILE)) as (block, band, thread):
        x_tile, w_tile = shared((TILE_K, TILE)), shared((TILE_K, TILE))
        down = tirx.floordiv(thread, TILE // SIDE) * SIDE
        right = tirx.floormod(thread, TILE // SIDE) * SIDE
        sums = [[Local(0.0) for _ in range(SIDE)] for _ in range(SIDE)]
        with T.serial(index(-(-inputs // TILE_K))) as step:
            for part in range(TILE * TILE_K // BLOCK_THREADS):
                number = part * BLOCK_THREADS + thread
                line = tirx.floordiv(number, TILE_K)
                inside = tirx.floormod(number, TILE_K)
                i = let(step * TILE_K + inside, "int64")
                row, column = let(band * TILE + line, "int64"), let(block * TILE + line, "int64")
                found = tirx.if_then_else(tirx.And(row < n, i < inputs), x[row, i], zero)
                T.buffer_store(x_tile, found, [inside, line])
                has_weight = tirx.And(column < columns, i < inputs)
                T.buffer_store(
                    w_tile, tirx.if_then_else(has_weight, weight(column, i), zero), [inside, line]
                )
            barrier()
            with T.serial(index(TILE_K)) as i:
                left = [let(x_tile[i, down + r]) for r in range(SIDE)]
                top = [let(w_tile[i, right + c]) for c in range(SIDE)]
                for r in range(SIDE):
                    for c in range(SIDE):
                        sums[r][c].set(sums[r][c].value + left[r] * top[c])
            barrier()
        for r in range(SIDE):
            for c in range(SIDE):
                row, column = band * TILE + down + r, block * TILE + right + c
                with otherwise_if(tirx.And(row < n, column < columns)):
                    write(row, column, sums[r][c].value)
