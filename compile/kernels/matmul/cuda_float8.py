"""x rounded to 8-bit floats by weights of 8-bit floats, which tensor cores multiply as they are.

Runs of 128 inputs of a row of x share a scale, which makes the largest of them e4m3's largest
number. What the instructions add up keeps 13 bits or so on Ada and Hopper, so the sums of a run, or
of half a run, are multiplied by its scale and added up in float32.

A word is four inputs that follow each other. Both operands are dealt as the weights are loaded: a
lane's 16 bytes are its four words of a unit of 64 inputs, 8t..8t+7 of both its groups (`spec.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tvm import tirx

from ingot.compile.kernels.cuda_ir import BLOCK_THREADS, WARP, launch, let, reduce_warp
from ingot.compile.kernels.matmul.cuda_epilogue import Epilogue
from ingot.compile.kernels.matmul.cuda_few_rows import FewRows
from ingot.compile.kernels.matmul.cuda_inputs import Inputs
from ingot.compile.kernels.matmul.cuda_many_rows import TILE, ManyRows, Stage, multiply_tiles
from ingot.compile.kernels.matmul.cuda_tiling import PADDING
from ingot.compile.kernels.matmul.cuda_warpgroup import (
    FEATURES_TILE,
    NARROW,
    Piece,
    Warpgroups,
    dealt,
)
from ingot.compile.kernels.matmul.float8 import LARGEST
from ingot.compile.kernels.matmul.reference import SMALLEST_RUN_MAXIMUM
from ingot.compile.kernels.matmul.spec import GROUP
from ingot.compile.kernels.tensor_core import COLUMNS, LANE_WORDS, ROWS, UNIT_WORDS, int32, quad
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, ceil_div, index, otherwise_if
from ingot.targets import Target

WORD = 4  # inputs
RUN = WARP * WORD  # inputs that share a scale: a warp rounds them, each lane a word
RUN_UNITS = WARP // UNIT_WORDS
WARPS = BLOCK_THREADS // WARP


class Float8FewRows(FewRows):
    """Each block rounds x for itself. A row's scales lie in the padding behind its words."""

    inputs_per_word = WORD

    def _ask(self, chunk: Expr, exists: Expr) -> None:
        """All of a chunk is read when it is rounded."""

    def _stage(self, chunk: Expr) -> None:
        runs, warps = self.tiling.chunk // RUN, self.tiling.threads // WARP
        assert runs <= PADDING, self.tiling
        total = self.epilogue.n * runs
        with T.serial(ceil_div(total, warps)) as step:
            number = step * warps + index(self.at.warp)
            with otherwise_if(number < total):
                row, run = tirx.floordiv(number, runs), tirx.floormod(number, runs)
                start = chunk * self.tiling.chunk + run * RUN
                word, scale = _round_run(self.inputs.x, self.epilogue, row, start, self.at.lane)
                place = int32(row) * self.row_words + int32(run) * WARP + self.at.lane
                T.buffer_store(self.shared, word, [place])
                with otherwise_if(self.at.lane == 0):
                    bits = tirx.reinterpret("uint32", scale)
                    T.buffer_store(self.shared, bits, [self._scale_place(int32(row), int32(run))])

    def _scale_place(self, row: Expr, run: Expr) -> Expr:
        return row * self.row_words + run + self.tiling.chunk // WORD

    def _row_scales(self, tile: int, unit: Expr) -> list[Expr]:
        run = tirx.floordiv(unit, RUN_UNITS)
        rows = [self.at.t * 2 + (tile * COLUMNS + column) for column in range(2)]
        bits = [self.shared[self._scale_place(row, run)] for row in rows]
        return 2 * [let(tirx.reinterpret("float32", word)) for word in bits]


class Float8ManyRows(ManyRows):
    """A step is one run."""

    def __init__(self, x_scales: Buffer, *rest: Any) -> None:
        self.x_scales = x_scales
        super().__init__(*rest)
        assert self.stage.x_vectors * LANE_WORDS == WARP

    def _row_scales(self, step: Expr) -> list[list[Expr]]:
        found = []
        for tile in range(len(self.sums)):
            line = self.down + tile * ROWS + self.at.g
            two = [_scale_of(self, step, line + 8 * half) for half in range(2)]
            found.append([two[0], two[0], two[1], two[1]])
        return found


class Float8Warpgroups(Warpgroups):
    """A step is one run."""

    def __init__(self, x_scales: Buffer, *rest: Any) -> None:
        self.x_scales = x_scales
        super().__init__(*rest)

    def _has_parts(self) -> bool:
        return True

    def _factors(self, step: Expr, pieces: list[Piece]) -> list[Expr]:
        scales = [
            _scale_of(self, step, self.at.t * 2 + (tile * COLUMNS + column))
            for tile in range(self.stage.rows // COLUMNS)
            for column in range(2)
        ]
        return [scales[i // 4 * 2 + i % 2] for i in range(self.num_sums)]


def _scale_of(kernel: Float8ManyRows | Float8Warpgroups, step: Expr, line: Expr) -> Expr:
    """The scale of one of the tile's rows in this step."""
    return let(kernel.x_scales[step, kernel.band * kernel.stage.rows + index(line)])


def multiply_many_float8_rows(target: Target, x: Inputs, epilogue: Epilogue) -> None:
    """Emit the kernel that rounds x and the one that multiplies, for any n."""
    stage = Stage.of(epilogue.weights, *target.sizes("matmul_tile", TILE))
    rounded, scales = _round_rows(stage, x, epilogue, lambda word: word)
    multiply_tiles(partial(Float8ManyRows, scales), stage, target, rounded, epilogue)


def multiply_float8_by_warpgroups(target: Target, x: Inputs, epilogue: Epilogue) -> None:
    """The same on Hopper's `wgmma`."""
    stage = Stage.of(epilogue.weights, NARROW, FEATURES_TILE)
    rounded, scales = _round_rows(stage, x, epilogue, dealt)
    multiply_tiles(partial(Float8Warpgroups, scales), stage, target, rounded, epilogue)


def _round_rows(
    stage: Stage, x: Inputs, epilogue: Epilogue, source: Callable[[Expr], Expr]
) -> tuple[Buffer, Buffer]:
    """Emit the kernel that makes x in words, with zeros up to whole tiles, and its scales by runs.
    `source` says which word of a run stands at a place."""
    padded_rows, inputs = stage.padded(epilogue.n), epilogue.weights.inputs
    runs = inputs // RUN
    rounded = T.alloc_buffer((padded_rows, inputs // WORD), "uint32")
    scales = T.alloc_buffer((runs, padded_rows), "float32")
    with launch(tirx.floordiv(padded_rows, WARPS) * runs, BLOCK_THREADS) as (block, thread):
        number = let(block * WARPS + tirx.floordiv(thread, WARP), "int64")
        row = let(tirx.floordiv(number, runs), "int64")
        run = let(tirx.floormod(number, runs), "int64")
        lane = tirx.floormod(thread, WARP)
        word, scale = _round_run(x, epilogue, row, run * RUN, source(lane))
        T.buffer_store(rounded, word, [row, run * WARP + lane])
        with otherwise_if(lane == 0):
            T.buffer_store(scales, scale, [run, row])
    return rounded, scales


def _round_run(
    x: Inputs, epilogue: Epilogue, row: Expr, start: Expr, word: Expr
) -> tuple[Expr, Expr]:
    """One word of the run of a row that begins at `start`, and the run's scale. All lanes of a warp
    come here, each for a word of its own."""
    unit, lane = tirx.floordiv(word, UNIT_WORDS), tirx.floormod(tirx.floordiv(word, 4), 4)
    group, half = tirx.floordiv(tirx.floormod(word, 4), 2), tirx.floormod(word, 2)
    first = let(start + index((unit * 2 + group) * GROUP + lane * 8 + half * WORD), "int64")
    has_row, width = row < epilogue.n, epilogue.weights.spec.in_features
    zero = tirx.const(0.0, "float32")
    columns = [first + i for i in range(WORD)]
    values = [x.value(row, k, tirx.And(has_row, k < width)) for k in columns]
    largest = zero
    for value in values:
        largest = tirx.Max(largest, tirx.Max(value, zero - value))
    largest = reduce_warp(largest, tirx.Max)
    is_tiny = largest <= tirx.const(SMALLEST_RUN_MAXIMUM, "float32")
    most = tirx.const(LARGEST, "float32")
    inverse = let(tirx.if_then_else(is_tiny, zero, most / largest))
    scale = let(largest * tirx.const(1 / LARGEST, "float32"))
    return let(quad([value * inverse for value in values]), "uint32"), scale
