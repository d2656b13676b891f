"""Turn a `LinearSpec` into a CPU kernel: out[n, N] = x[n, K] @ weight.T + bias, gated or not.

x: [n, K] float32, row major; weight: packed as `spec.py` draws it; out: [n, N] float32.

The columns are cut into the packed blocks, the rows into chunks of a few register tiles; the pairs
(block, chunk) run in parallel, chunks of a block side by side so that they find its weights in
the cache. A tile keeps `rows x vectors` accumulators in registers over the whole of K, so weights
are read once for each tile and, as long as a block fits the cache, once from memory. Where the CPU
has matrix tiles, those multiply what has rows enough for them (`cpu_amx.py`).

Every output is summed over K in the same order, with the same roundings, in every tile: a row's
result does not depend on how many rows come with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tvm import tirx

from ingot.compile.kernels.activation.cpu import FUNCTIONS
from ingot.compile.kernels.matmul.cpu_amx import matrix_tiles
from ingot.compile.kernels.matmul.cpu_bfloat16 import Bfloat16Tiles
from ingot.compile.kernels.matmul.cpu_dot import DotTiles
from ingot.compile.kernels.matmul.cpu_float import FloatTiles
from ingot.compile.kernels.matmul.cpu_nibbles import NibbleTiles
from ingot.compile.kernels.matmul.cpu_pairs import PairTiles
from ingot.compile.kernels.matmul.cpu_six_bits import SixBitTiles
from ingot.compile.kernels.matmul.spec import (
    Layout,
    LinearSpec,
    effective_activations,
    has_quad_dot,
    layout,
    packed_tensors,
)
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    ceil_div,
    count,
    fma,
    index,
    kernel,
    let,
    load,
    minimum,
    otherwise_if,
    splat,
)
from ingot.targets import Target

# Register tiles of one parallel task, at most: enough work to hide its start, few enough that
# a prefill of some hundred rows still spreads over many cores.
TILES_PER_TASK = 16
# Tiles of a task from which unpacking the weights once, for all of them, saves time.
LEAST_UNPACKED = 2
# Tiles for the rows that are left over: each is needed at most once.
REMAINDER_ROWS = (16, 8, 4, 2, 1)


class Tiles(Protocol):
    """What differs between activations in float32, bfloat16 and int8."""

    rows: int  # rows of a full register tile
    row_bytes: int  # of one row of activations as the tile reads it

    def prepare(self, n: Expr) -> None:
        """Emit what must run before the first tile."""

    def accumulate(self, sums: list[Register], block: Expr, row: Expr, rows: int) -> None:
        """Emit the sums over K of one tile; `sums[r * vectors + v]` starts at zero."""


MakeTiles = Callable[[LinearSpec, Target, Layout, Buffer, list[Buffer]], Tiles]


def choose_tiles(spec: LinearSpec, target: Target) -> MakeTiles:
    """What multiplies `spec` on `target`."""
    activations = effective_activations(spec, target)
    if activations != "int8":
        return Bfloat16Tiles if activations == "bfloat16" else FloatTiles
    by_bits: dict[int, MakeTiles] = {8: DotTiles, 6: SixBitTiles, 4: NibbleTiles}
    return by_bits[spec.format.bits] if has_quad_dot(target) else PairTiles


def build(spec: LinearSpec, target: Target) -> tirx.PrimFunc:
    """The kernel `(x, *packed, (bias), out)`; the number of rows n is symbolic, 0 included."""
    cut = layout(spec, target)
    gate = f"_{spec.gate}" if spec.gate else ""
    with kernel(f"linear_{spec.format.code}{gate}") as function:
        n = count("n")
        x = function.argument("x", (n, spec.in_features))
        packed = [
            function.argument(tensor.suffix, tensor.shape, tensor.dtype)
            for tensor in packed_tensors(spec, target)
        ]
        bias = function.argument("bias", (spec.out_features,)) if spec.has_bias else None
        out = function.argument("out", (n, spec.width))
        tiles = choose_tiles(spec, target)(spec, target, cut, x, packed)
        tiles.prepare(n)
        _emit_tasks(n, target, cut, tiles, Epilogue(spec, cut, packed, bias, out))
    return function.function


def _emit_tasks(n: Expr, target: Target, cut: Layout, tiles: Tiles, epilogue: Epilogue) -> None:
    """Run every (block, chunk of rows) in parallel, the rows in matrix tiles or in vectors."""

    def in_vectors(block: Expr, first: Expr, rows: Expr) -> None:
        _emit_rows(block, first, rows, cut, tiles, epilogue)

    def in_matrices(block: Expr, first: Expr, rows: Expr) -> None:
        assert matrix is not None
        matrix.emit(block, first, rows, epilogue.emit)

    most_tiles = target.size("matmul_tiles_per_task", TILES_PER_TASK)
    fitting = target.l2_bytes // 2 // (tiles.rows * tiles.row_bytes)
    chunk_rows = tiles.rows * max(1, min(most_tiles, fitting))
    matrix = matrix_tiles(target, cut, tiles)
    if matrix is None:
        _in_parallel(n, cut, chunk_rows, in_vectors)
        return
    chunk_of_matrices = -(-chunk_rows // matrix.rows) * matrix.rows
    with T.If(n >= matrix.least_rows):
        with T.Then():
            _in_parallel(n, cut, chunk_of_matrices, in_matrices)
        if matrix.least_rows:
            with T.Else():
                _in_parallel(n, cut, chunk_rows, in_vectors)


def _in_parallel(
    n: Expr, cut: Layout, chunk_rows: int, emit: Callable[[Expr, Expr, Expr], None]
) -> None:
    """Emit `emit(block, first row, rows)` for every pair."""
    chunks = let(ceil_div(n, chunk_rows), 1, "int64")
    with T.parallel(chunks * cut.blocks) as task:
        block = let(tirx.floordiv(task, chunks), 1, "int64")
        first = let(tirx.floormod(task, chunks) * chunk_rows, 1, "int64")
        emit(block, first, let(minimum(n - first, index(chunk_rows)), 1, "int64"))


def _emit_rows(
    block: Expr, first: Expr, num_rows: Expr, cut: Layout, tiles: Tiles, epilogue: Epilogue
) -> None:
    """Full register tiles, then a smaller one for each power of two in what is left."""

    def emit_full_tiles(tiles: Tiles) -> None:
        with T.serial(whole) as full:
            _emit_tile(block, first + full * tiles.rows, tiles.rows, cut, tiles, epilogue)

    whole = let(tirx.floordiv(num_rows, tiles.rows), 1, "int64")
    if isinstance(tiles, NibbleTiles) and tiles.unpacks:
        with T.If(whole >= LEAST_UNPACKED):
            with T.Then():
                emit_full_tiles(tiles.unpack(block))
            with T.Else():
                emit_full_tiles(tiles)
    else:
        emit_full_tiles(tiles)
    left = let(tirx.floormod(num_rows, tiles.rows), 1, "int64")
    for rows in REMAINDER_ROWS:
        if rows < tiles.rows:
            with otherwise_if(tirx.floormod(tirx.floordiv(left, rows), 2) == 1):
                larger = tirx.floordiv(left, 2 * rows) * (2 * rows)
                start = first + (num_rows - left) + larger
                _emit_tile(block, start, rows, cut, tiles, epilogue)


def _emit_tile(
    block: Expr, row: Expr, rows: int, cut: Layout, tiles: Tiles, epilogue: Epilogue
) -> None:
    row = let(row, 1, "int64")
    sums = [Register(cut.lanes, 0.0) for _ in range(rows * cut.vectors)]
    tiles.accumulate(sums, block, row, rows)
    epilogue.emit(sums, block, row, rows)


class Epilogue:
    """Turns the sums of a tile into rows of `out`: row scale, bias, gate, ragged last block."""

    def __init__(
        self, spec: LinearSpec, cut: Layout, packed: list[Buffer], bias: Buffer | None, out: Buffer
    ) -> None:
        self.cut = cut
        self.out_features = spec.out_features
        has_row_scale = spec.format.is_quantized and not spec.format.group_size
        self.row_scale = packed[1] if has_row_scale else None
        self.bias = bias
        self.out = out
        self.activate = FUNCTIONS[spec.gate] if spec.gate else None

    def emit(self, sums: list[Register], block: Expr, row: Expr, rows: int) -> None:
        lanes, vectors = self.cut.lanes, self.cut.vectors
        columns = [tirx.Ramp(block * self.cut.block + v * lanes, 1, lanes) for v in range(vectors)]
        finish = [self._finish(block, v, columns[v]) for v in range(vectors)]
        for r in range(rows):
            values = [finish[v](sums[r * vectors + v].value) for v in range(vectors)]
            if self.activate is None:
                for value, where in zip(values, columns, strict=True):
                    self._store_columns(value, row + r, where)
            else:
                gate, up = values
                value = self.activate(let(gate, lanes), lanes) * up
                where = tirx.Ramp(block * lanes, 1, lanes)
                T.buffer_store(self.out, value, [row + r, where])

    def _finish(self, block: Expr, v: int, where: Expr) -> Callable[[Expr], Expr]:
        """What turns the sums of a row in vector `v` of a block into its outputs."""
        lanes = self.cut.lanes
        scale = bias = None
        if self.row_scale is not None:
            scale = let(load(self.row_scale, (block, index(v * lanes)), lanes), lanes)
        if self.bias is not None:
            bias = let(self._load_columns(self.bias, where), lanes)

        def finish(value: Expr) -> Expr:
            if scale is not None:
                return fma(value, scale, splat(0.0, lanes) if bias is None else bias, lanes)
            return value if bias is None else value + bias

        return finish

    @property
    def _is_ragged(self) -> bool:
        """Whether the last block has fewer columns than the others."""
        return self.out_features % self.cut.block != 0

    def _valid(self, where: Expr) -> Expr:
        return where < splat(index(self.out_features), self.cut.lanes)

    def _load_columns(self, buffer: Buffer, where: Expr) -> Expr:
        if not self._is_ragged:
            return buffer[where]
        return T.masked_load(f"float32x{self.cut.lanes}", buffer, where, self._valid(where))

    def _store_columns(self, value: Expr, row: Expr, where: Expr) -> None:
        if not self._is_ragged:
            T.buffer_store(self.out, value, [row, where])
        else:
            T.evaluate(T.masked_store(self.out, value, row, where, self._valid(where)))
