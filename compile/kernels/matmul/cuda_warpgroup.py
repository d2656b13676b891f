"""Many rows of x by a weight matrix on Hopper's `wgmma`: four warps multiply at a time.

As in `cuda_many_rows.py` a block computes a tile of x by features, and tiles of the next steps are
copied while one is multiplied. Here features are the rows of the instruction: a warpgroup has 64 of
them, their weights widened in registers, by all rows of x in the tile, which the instruction reads
from shared memory by itself. A lane's sums are those of the features g and g + 8 of its warp.

Shared memory holds x as the instruction wants it without a swizzle: 8 rows of 16 bytes lie
together, then those of the next 8 rows, and only then the next 16 bytes of all. The instruction
takes inputs in their order, but a lane's weights are dealt (`tensor_core.py`): the kernel that
rounds x deals its pairs alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import choose, let
from ingot.compile.kernels.matmul.cuda_epilogue import Epilogue
from ingot.compile.kernels.matmul.cuda_inputs import Inputs
from ingot.compile.kernels.matmul.cuda_many_rows import (
    ManyRows,
    Stage,
    multiply_tiles,
    round_rows,
)
from ingot.compile.kernels.tensor_core import (
    COLUMNS,
    LANE_WORDS,
    ROWS,
    SHORT,
    UNIT_WORDS,
    emit,
    pointer,
    words,
    zeros,
)
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index
from ingot.targets import Target, TargetError

FEATURES_TILE = 128  # what two warpgroups have rows
# Rows of a tile are what the instruction has columns. A block of the wide tile reads three quarters
# as much for each product, but there are half as many, and its sums take half of all registers.
NARROW, WIDE = 128, 256


def multiply_by_warpgroups(target: Target, x: Inputs, epilogue: Epilogue) -> None:
    """Emit the kernel that rounds x and those that multiply, for any n."""
    weights = epilogue.weights
    can_widen = not weights.has_group_scales  # their sums come twice
    most_rows = target.size("matmul_wgmma_rows", WIDE) if can_widen else NARROW
    if most_rows not in (NARROW, WIDE):
        raise TargetError(
            f"the tuned size matmul_wgmma_rows is {most_rows}; it is {NARROW} or {WIDE}"
        )
    narrow, wide = (Stage.of(weights, rows, FEATURES_TILE) for rows in (NARROW, most_rows))
    rounded = round_rows(wide, x, epilogue, dealt)

    def multiply(stage: Stage) -> None:
        multiply_tiles(Warpgroups, stage, target, rounded, epilogue)

    if wide == narrow:
        multiply(narrow)
        return
    # Wide tiles where no multiprocessor is without one.
    blocks = -(-weights.spec.out_features // FEATURES_TILE)
    fewer = WIDE * (-(-target.multiprocessors // blocks) - 1)
    choose(epilogue.n, [(max(NARROW, fewer), lambda: multiply(narrow))], lambda: multiply(wide))


def dealt(place: Expr) -> Expr:
    """Lane t has words 4t to 4t + 3 of a unit: the first of all lanes come first."""
    start = place - tirx.floormod(place, UNIT_WORDS)
    place = tirx.floormod(place, UNIT_WORDS)
    return start + tirx.floormod(place, 4) * LANE_WORDS + tirx.floordiv(place, 4)


@dataclass(frozen=True, slots=True)
class Piece:
    """One unit of inputs: the words of both of a lane's features, where x is, the scales."""

    upper: Buffer
    lower: Buffer
    vector: Expr
    scales: list[Expr]


class Warpgroups(ManyRows):
    """Emits the steps of one block."""

    def _start(self) -> None:
        warp_features = self.at.warp * ROWS  # two warpgroups have 64 features each, in order
        self.line = let(warp_features + self.at.g, "int32")
        # Of a lane: two features by two rows in every 8 of x.
        self.num_sums = self.stage.rows // COLUMNS * 4
        self.lane_sums = zeros(self.num_sums)
        self.part = words(self.num_sums, "float32") if self._has_parts() else self.lane_sums

    def _has_parts(self) -> bool:
        """Whether sums of some inputs are scaled before they are added to the others."""
        return self.weights.has_group_scales

    def _hand_over(self) -> None:
        emit("share_with_tensor_cores")

    def _x_vector(self, number: Expr) -> tuple[Expr, Expr]:
        """Eight lanes write 128 bytes that lie together."""
        eights = tirx.floordiv(number, 8)
        line = tirx.floordiv(eights, self.stage.x_vectors) * 8 + tirx.floormod(number, 8)
        return line, tirx.floormod(eights, self.stage.x_vectors)

    def _x_place(self, line: Expr, vector: Expr) -> Expr:
        return vector * self.stage.rows + line

    def _advance(self, step: Expr, later: Expr) -> None:
        """The threads start their copies while the tensor cores multiply."""
        slot = self._slot(step)
        pieces = self._all_pieces(slot)
        is_scaled = self.weights.has_group_scales  # then each group's sum is scaled by itself
        for number, group in enumerate([[piece] for piece in pieces] if is_scaled else [pieces]):
            factors = self._factors(step, group)
            self._begin(slot, group, adds=not factors)
            if number == 0:
                self._fetch(later)
            emit(f"warpgroup_wait_{self.stage.rows}", pointer(self.part, 0))
            for i, factor in enumerate(factors):
                T.buffer_store(self.lane_sums, self.lane_sums[i] + self.part[i] * factor, [i])

    def _factors(self, step: Expr, pieces: list[Piece]) -> list[Expr]:
        """What each sum of these pieces is multiplied by before it is added, or nothing."""
        if not self._has_parts():
            return []
        return [pieces[0].scales[i % 4 // 2] for i in range(self.num_sums)]

    def _all_pieces(self, slot: Expr) -> list[Piece]:
        return [
            piece
            for load in range(self.stage.weight_vectors // 4)
            for piece in self._pieces(slot, load)
        ]

    def _pieces(self, slot: Expr, load: int) -> list[Piece]:
        """The units of one load of 16 bytes for each of a lane's features."""
        per_load = self.weights.units_per_load
        lines = (self.line, self.line + 8)
        loaded = [
            self._read(slot + self._weight_place(line, load * 4 + self.at.t)) for line in lines
        ]
        scales = self._scales(slot, lines)
        return [
            Piece(
                self.weights.fragment(loaded[0], unit),
                self.weights.fragment(loaded[1], unit),
                tirx.const((load * per_load + unit) * 4, "int32"),
                [self.weights.scale(two, unit) for two in scales],
            )
            for unit in range(per_load)
        ]

    def _begin(self, slot: Expr, pieces: list[Piece], *, adds: bool) -> None:
        """Begin part = A B over the pieces, or what it is and more."""
        sums = pointer(self.part, 0)
        for piece in pieces:
            emit("hold", pointer(piece.upper, 0))
            emit("hold", pointer(piece.lower, 0))
        emit(f"warpgroup_arrive_{self.stage.rows}", sums)
        for number, piece in enumerate(pieces):
            for s in range(2):
                halves = (piece.upper, piece.lower)
                left = [half[2 * s + i] for i in range(2) for half in halves]
                place = slot + self._x_place(tirx.const(0, "int32"), piece.vector + 2 * s)
                is_more = tirx.const(int(adds or number + s > 0), "int32")
                name = f"warpgroup_multiply_{SHORT[self.weights.dtype]}_{self.stage.rows}"
                emit(name, sums, *left, pointer(self.shared, place), is_more)
        emit("warpgroup_commit")

    def _write(self) -> None:
        first = let(self.block * FEATURES_TILE + index(self.line), "int64")
        rows = []
        for tile in range(self.stage.rows // COLUMNS):
            for column in range(2):
                line = index(self.at.t * 2 + (tile * COLUMNS + column))
                row = let(self.band * self.stage.rows + line, "int64")
                place = 4 * tile + column
                rows.append((row, (self.lane_sums[place], self.lane_sums[place + 2])))
        self.epilogue.store(first, rows)
