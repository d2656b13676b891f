"""Turn many rows into outputs by products of matrix tiles (AMX), in the layouts of the vectors.

Four consecutive inputs of an output (two in bfloat16) lie side by side, and outputs beside outputs:
a vector of packed weights is a row of a tile, a tile of sums holds 16 rows by a vector of outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tvm import tirx

from ingot.compile.kernels import amx
from ingot.compile.kernels.amx import TILE_BYTES, TILE_ROWS, WORDS, Shape
from ingot.compile.kernels.matmul.cpu_bfloat16 import Bfloat16Tiles
from ingot.compile.kernels.matmul.cpu_dot import DotTiles
from ingot.compile.kernels.matmul.cpu_int8_rows import QUADS
from ingot.compile.kernels.matmul.spec import (
    GROUP,
    PAIRS_OF_TILE,
    QUAD,
    Layout,
    has_bfloat16_tiles,
    has_byte_tiles,
)
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    ceil_div,
    index,
    let,
    load,
    minimum,
    otherwise_if,
    serial_or_once,
    splat,
    store,
)
from ingot.targets import Target

Emit = Callable[[list[Register], Expr, Expr, int], None]
"""Finishes the sums of one tile: `(sums, block, row, rows)`."""

# Of the int8 kernel: tiles of one run are multiplied while those of another are converted.
RUNS_AT_ONCE = 2
# A tile of int8 takes as long for one row as for 16, and its weights are unpacked first. By counts
# of instructions that is the time of 7 rows in vectors; not measured.
LEAST_BYTE_ROWS = 12


class MatrixTiles(Protocol):
    """Multiplies rows that were rounded for the vectors, in their place."""

    rows: int  # that it takes together
    least_rows: int  # of a call: fewer are the vectors'

    def emit(self, block: Expr, first: Expr, rows: Expr, finish: Emit) -> None:
        """Emit the outputs of `rows` rows from `first` on."""


def matrix_tiles(target: Target, cut: Layout, tiles: object) -> MatrixTiles | None:
    """What multiplies the rows that `tiles` rounds; None where the target has no such tiles."""
    if isinstance(tiles, DotTiles) and has_byte_tiles(target):
        return ByteMatrix(cut, tiles)
    if isinstance(tiles, Bfloat16Tiles) and has_bfloat16_tiles(target):
        return Bfloat16Matrix(cut, tiles)
    return None


class ByteMatrix:
    """int8: 16 rows at a time. The sums of a run are exact, and then added as vectors add them:
    a row's result is the same to the last bit whichever of the two takes it.

    The weights of a block become signed bytes in the cache once a task. A run of 32 inputs fills
    half the depth of a tile, one of 128 two tiles.
    """

    rows, least_rows = TILE_ROWS, LEAST_BYTE_ROWS

    def __init__(self, cut: Layout, dots: DotTiles) -> None:
        self.cut, self.dots = cut, dots
        self.quads_of_run = QUADS * cut.groups_per_run
        self.depth = min(TILE_ROWS, self.quads_of_run)  # of a tile, in quads of inputs

    def emit(self, block: Expr, first: Expr, rows: Expr, finish: Emit) -> None:
        self.weights = self._unpack(block)
        self.dot = T.alloc_buffer((RUNS_AT_ONCE, TILE_ROWS, WORDS), "int32")
        totals = T.alloc_buffer((self.rows, self.cut.block), "float32")
        shapes = Shape(), Shape(row_bytes=QUAD * self.depth), Shape(self.depth)
        amx.configure([shape for shape in shapes for _ in range(RUNS_AT_ONCE)])
        with T.serial(ceil_div(rows, self.rows)) as tile:
            row = let(first + tile * self.rows, 1, "int64")
            for v in range(self.cut.vectors):
                self._emit_sums(totals, block, row, v)
            here = minimum(rows - tile * self.rows, index(self.rows))
            _finish_rows(totals, self.cut, block, row, let(here, 1, "int64"), finish)
        amx.release()

    def _unpack(self, block: Expr) -> Buffer:
        """The signed weights of a block, quads of inputs below each other."""
        vectors = self.cut.vectors
        signed = T.alloc_buffer((self.cut.groups * QUADS, vectors * TILE_BYTES), "uint8")
        for group, quad, codes in self.dots.all_quads(block):
            for v in range(vectors):
                place = (group * QUADS + quad, index(v * TILE_BYTES))
                offset = splat(self.dots.offset, TILE_BYTES, "uint8")
                store(signed, place, codes[v] - offset, TILE_BYTES)
        return signed

    def _emit_sums(self, totals: Buffer, block: Expr, row: Expr, v: int) -> None:
        """One vector of outputs: as many sums as leave registers for what is added to them."""
        lanes, runs = self.cut.lanes, self.dots.runs
        sums = [Register(lanes, 0.0) for _ in range(self.rows)]
        several, left = divmod(runs, RUNS_AT_ONCE)
        if several:
            with serial_or_once(several) as i:
                together = [i * RUNS_AT_ONCE + g for g in range(RUNS_AT_ONCE)]
                self._add_runs(sums, block, row, v, together)
        for g in range(runs - left, runs):
            self._add_runs(sums, block, row, v, [index(g)])
        for r, total in enumerate(sums):
            store(totals, (index(r), index(v * lanes)), total.value, lanes)

    def _add_runs(
        self, sums: list[Register], block: Expr, row: Expr, v: int, runs: list[Expr]
    ) -> None:
        dots = self.dots
        for i, run in enumerate(runs):
            tile, a, b = i, RUNS_AT_ONCE + i, 2 * RUNS_AT_ONCE + i
            amx.zero(tile)
            for part in range(0, self.quads_of_run, self.depth):
                quad = run * self.quads_of_run + part
                amx.load(a, dots.x_rows.quads, (row, quad), self.cut.groups * GROUP)
                weights_stride = TILE_BYTES * self.cut.vectors
                amx.load(b, self.weights, (quad, index(v * TILE_BYTES)), weights_stride)
                amx.dot_bytes(tile, a, b)
            amx.store(tile, self.dot, (index(i), index(0), index(0)), TILE_BYTES)
        scales = [dots.weight_scale(block, run, v) for run in runs]
        for r, total in enumerate(sums):
            for i, run in enumerate(runs):
                dot = load(self.dot, (index(i), index(r), index(0)), WORDS)
                dot = tirx.Cast(f"float32x{WORDS}", dot)
                dots.add_scaled(total, dot, scales[i], dots.x_rows.scale[row + r, run])


class Bfloat16Matrix:
    """bfloat16: 32 rows by 32 outputs at a time, whose sums keep in their tiles over all of K.

    The rows that are left go 16 or fewer at a time through shorter tiles: tiles round in another
    order than vectors do, so they take all rows, and a row's result depends on no other.
    """

    rows, least_rows = 2 * TILE_ROWS, 0

    def __init__(self, cut: Layout, pairs: Bfloat16Tiles) -> None:
        self.cut, self.pairs = cut, pairs

    def emit(self, block: Expr, first: Expr, rows: Expr, finish: Emit) -> None:
        self.totals = T.alloc_buffer((self.rows, self.cut.block), "float32")
        with otherwise_if(rows >= self.rows):
            amx.configure([Shape()] * amx.TILES)
            with T.serial(tirx.floordiv(rows, self.rows)) as tile:
                self._emit_tile(block, first + tile * self.rows, 2, index(self.rows), finish)
        left = let(tirx.floormod(rows, self.rows), 1, "int64")
        with T.serial(ceil_div(left, TILE_ROWS)) as tile:
            here = let(minimum(left - tile * TILE_ROWS, index(TILE_ROWS)), 1, "int64")
            shorter = Shape(rows=here)
            amx.configure([shorter, shorter, shorter, Shape(), Shape()])
            start = first + (rows - left) + tile * TILE_ROWS
            self._emit_tile(block, start, 1, here, finish)
        amx.release()

    def _emit_tile(self, block: Expr, row: Expr, high: int, rows: Expr, finish: Emit) -> None:
        """The outputs of `rows` rows: `high` tiles of rows by the vectors of a block."""
        vectors, lanes, pairs = self.cut.vectors, self.cut.lanes, self.pairs
        row = let(row, 1, "int64")
        # Tiles: the sums, those of a row of tiles side by side, then the rows, then the weights.
        first_a = high * vectors
        first_b = first_a + high
        for total in range(first_a):
            amx.zero(total)
        stride = 4 * int(pairs.pairs.shape[1])
        weights_stride = TILE_BYTES * vectors
        with T.serial(index(int(pairs.weight.shape[1]) // PAIRS_OF_TILE)) as step:
            pair = let(step * PAIRS_OF_TILE, 1, "int64")
            for h in range(high):
                amx.load(first_a + h, pairs.pairs, (row + h * TILE_ROWS, pair), stride)
            for v in range(vectors):
                where = (block, pair, index(v * TILE_BYTES // 2))
                amx.load(first_b + v, pairs.weight, where, weights_stride)
            for h in range(high):
                for v in range(vectors):
                    amx.dot_bfloat16(h * vectors + v, first_a + h, first_b + v)
        for h in range(high):
            for v in range(vectors):
                place = (index(h * TILE_ROWS), index(v * lanes))
                amx.store(h * vectors + v, self.totals, place, 4 * self.cut.block)
        _finish_rows(self.totals, self.cut, block, row, rows, finish)


def _finish_rows(
    totals: Buffer, cut: Layout, block: Expr, row: Expr, rows: Expr, finish: Emit
) -> None:
    """Sums in memory, `[rows, block]`, to outputs."""
    lanes = cut.lanes
    with T.serial(rows) as r:
        sums = [
            Register(lanes, load(totals, (r, index(v * lanes)), lanes)) for v in range(cut.vectors)
        ]
        finish(sums, block, row + r, 1)
