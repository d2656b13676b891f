"""Many rows of x by a weight matrix: tiles of both in shared memory, copied in the background.

A first kernel rounds x to 16 bits. In the second a block computes a tile of x by features; its
warps stand 2 x 4, of 128 x 128 each with 64 x 32 sums in registers. Tiles of the next steps along
the inputs are on their way while one is multiplied. Weights lie packed in shared memory and
are widened in registers, each group's sum scaled on its own.

Vector c (of 16 bytes) of row r lies at c ^ 4 in every odd row: a quarter of a warp then reads all
32 banks once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP, barrier, dynamic_shared, for_elements, launch, let
from ingot.compile.kernels.matmul.cuda_epilogue import Epilogue, add_product
from ingot.compile.kernels.matmul.cuda_inputs import Inputs
from ingot.compile.kernels.matmul.cuda_weights import Weights
from ingot.compile.kernels.tensor_core import (
    COLUMNS,
    LANE_WORDS,
    ROWS,
    Lane,
    emit,
    int32,
    pair,
    pointer,
    words,
    zeros,
)
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, ceil_div, index, minimum, otherwise_if
from ingot.targets import Target

TILE = (128, 128)  # rows and features, where nothing was measured
WARPS_DOWN, WARPS_ACROSS = 2, 4
THREADS = WARPS_DOWN * WARPS_ACROSS * WARP
MAX_STAGES = 3  # likewise
# Blocks start in the order of their numbers. Those of a few features follow each other for so many
# bands of rows: what runs at a time reads the same weights, and x out of the second-level cache.
BANDS_TOGETHER = 16
VECTOR_BYTES = 16


@dataclass(frozen=True, slots=True)
class Stage:
    """One step's tiles in shared memory, in vectors of 16 bytes: x first, then the weights, then
    the scales of each feature's groups, which take less than one."""

    rows: int
    features: int
    x_vectors: int  # in a row
    weight_vectors: int
    scale_vectors: int  # of all features

    @staticmethod
    def of(weights: Weights, rows: int, features: int) -> Stage:
        """Two units of 16- and 8-bit weights a step, four of 4-bit ones."""
        units = max(2, weights.units_per_load)
        loads = units // weights.units_per_load
        assert loads == 1 or not weights.has_group_scales
        scales = features if weights.has_group_scales else 0
        return Stage(rows, features, units * 4, loads * 4, scales)

    @property
    def weights_start(self) -> int:
        return self.rows * self.x_vectors

    @property
    def scales_start(self) -> int:
        return self.weights_start + self.features * self.weight_vectors

    @property
    def vectors(self) -> int:
        return self.scales_start + self.scale_vectors

    def padded(self, n: Expr) -> Expr:
        """The rows of whole tiles."""
        return ceil_div(n, self.rows) * self.rows

    def fitting(self, target: Target) -> int:
        """How many steps' tiles are in shared memory: two at least, one being multiplied."""
        room = target.shared_memory_bytes // (self.vectors * VECTOR_BYTES)
        return max(2, min(target.size("matmul_stages", MAX_STAGES), room))


def multiply_many_rows(target: Target, x: Inputs, epilogue: Epilogue) -> None:
    """Emit both kernels, for any n."""
    stage = Stage.of(epilogue.weights, *target.sizes("matmul_tile", TILE))
    rounded = round_rows(stage, x, epilogue)
    multiply_tiles(ManyRows, stage, target, rounded, epilogue)


def multiply_tiles(
    kernel: Callable[..., ManyRows], stage: Stage, target: Target, x: Buffer, epilogue: Epilogue
) -> None:
    """Emit the kernel whose blocks compute a tile each, of rounded x."""
    stages = stage.fitting(target)
    blocks = index(-(-epilogue.weights.spec.out_features // stage.features))
    bands = ceil_div(epilogue.n, stage.rows)
    together = minimum(bands, index(BANDS_TOGETHER))
    grid_y = ceil_div(bands, BANDS_TOGETHER) * blocks
    with launch(together, THREADS, grid_y) as (place, y, thread):
        band = let(tirx.floordiv(y, blocks) * BANDS_TOGETHER + place, "int64")
        with otherwise_if(band < bands):
            kernel(stage, stages, x, epilogue, tirx.floormod(y, blocks), band, thread).run()


def round_rows(
    stage: Stage,
    x: Inputs,
    epilogue: Epilogue,
    source: Callable[[Expr], Expr] = lambda word: word,
) -> Buffer:
    """Emit the kernel that makes x in pairs of 16 bits, with zeros up to whole tiles. `source` says
    which pair of a row stands at a place."""
    weights, n, padded_rows = epilogue.weights, epilogue.n, stage.padded(epilogue.n)
    width = weights.inputs
    rounded = T.alloc_buffer((padded_rows, width // 2), "uint32")

    def round_pair(i: Expr) -> None:
        row = let(tirx.floordiv(i, width // 2), "int64")
        place = let(tirx.floormod(i, width // 2), "int64")
        first = let(source(place) * 2, "int64")
        low, high = (
            x.value(row, k, tirx.And(row < n, k < weights.spec.in_features))
            for k in (first, first + 1)
        )
        T.buffer_store(rounded, pair(low, high, weights.dtype), [row, place])

    for_elements(padded_rows * (width // 2), round_pair)
    return rounded


class ManyRows:
    """Emits the steps of one block."""

    def __init__(
        self,
        stage: Stage,
        stages: int,
        x: Buffer,
        epilogue: Epilogue,
        block: Expr,
        band: Expr,
        thread: Expr,
    ) -> None:
        self.stage, self.stages, self.x, self.epilogue = stage, stages, x, epilogue
        self.weights = weights = epilogue.weights
        self.block, self.band, self.thread = block, band, int32(thread)
        self.at = Lane.of(thread)
        self.warp_rows = stage.rows // WARPS_DOWN
        self.warp_features = stage.features // WARPS_ACROSS
        self.down = tirx.floordiv(self.at.warp, WARPS_ACROSS) * self.warp_rows
        self.across = tirx.floormod(self.at.warp, WARPS_ACROSS) * self.warp_features
        self.steps = weights.inputs // weights.unit * 4 // stage.x_vectors
        self.shared = dynamic_shared(stages * stage.vectors, "uint32x4")
        self._start()

    def _start(self) -> None:
        across, down = self.warp_features // COLUMNS, self.warp_rows // ROWS
        self.sums = [[zeros(4) for _ in range(across)] for _ in range(down)]

    def run(self) -> None:
        ahead = self.stages - 1
        for step in range(ahead):
            self._fetch(index(step))
        with T.serial(index(self.steps)) as step:
            emit(f"wait_copies<{ahead - 1}>")
            self._hand_over()
            barrier()  # this step's tiles are there, and all have read those of the last one
            self._advance(step, step + ahead)
        self._write()

    def _advance(self, step: Expr, later: Expr) -> None:
        """Multiply a step's tiles while those of a later one are on their way."""
        self._fetch(later)
        self._multiply(step)

    def _hand_over(self) -> None:
        """Whatever it takes for others to see this thread's copies after a barrier."""

    def _slot(self, step: Expr) -> Expr:
        return let(int32(tirx.floormod(step, self.stages)) * self.stage.vectors, "int32")

    def _fetch(self, step: Expr) -> None:
        """Start to copy the tiles of a step, if there is one. A group of copies ends in any case:
        the waits count groups."""
        with otherwise_if(step < self.steps):
            slot, stage = self._slot(step), self.stage
            for part in range(stage.rows * stage.x_vectors // THREADS):
                line, vector = self._x_vector(part * THREADS + self.thread)
                k = step * stage.x_vectors + index(vector)
                source = pointer(self.x, self.band * self.stage.rows + index(line), k * LANE_WORDS)
                self._copy(slot + self._x_place(line, vector), source)
            for part in range(stage.features * stage.weight_vectors // THREADS):
                number = part * THREADS + self.thread
                line = tirx.floordiv(number, stage.weight_vectors)
                vector = tirx.floormod(number, stage.weight_vectors)
                feature = self._known(self.block * self.stage.features + index(line))
                load = step * (stage.weight_vectors // 4) + index(tirx.floordiv(vector, 4))
                lane = index(tirx.floormod(vector, 4))
                source = self.weights.pointer(feature, load, lane)
                self._copy(slot + self._weight_place(line, vector), source)
            if stage.scale_vectors:
                with otherwise_if(self.thread < stage.features):
                    feature = self._known(self.block * stage.features + index(self.thread))
                    place = pointer(self.shared, slot + stage.scales_start + self.thread)
                    source = self.weights.scale_pointer(feature, step)
                    emit(f"copy_async{4 * self.weights.scale_words}", place, source)
        emit("commit_copies")

    def _known(self, feature: Expr) -> Expr:
        """A feature that there is: sums of those beyond are not written."""
        last = self.weights.spec.out_features - 1
        is_whole = self.weights.spec.out_features % self.stage.features == 0
        return feature if is_whole else minimum(feature, index(last))

    def _copy(self, place: Expr, source: Expr) -> None:
        emit("copy_async16", pointer(self.shared, place), source)

    def _x_vector(self, number: Expr) -> tuple[Expr, Expr]:
        """The line and the vector of it that are copied as this one of a step's."""
        count = self.stage.x_vectors
        return tirx.floordiv(number, count), tirx.floormod(number, count)

    def _x_place(self, line: Expr, vector: Expr) -> Expr:
        return line * self.stage.x_vectors + _swizzled(line, vector)

    def _weight_place(self, line: Expr, vector: Expr) -> Expr:
        if self.stage.weight_vectors > 4:
            vector = _swizzled(line, vector)
        return self.stage.weights_start + line * self.stage.weight_vectors + vector

    def _read(self, place: Expr) -> Buffer:
        read = words(LANE_WORDS)
        emit("load_shared16", pointer(read, 0), pointer(self.shared, place))
        return read

    def _multiply(self, step: Expr) -> None:
        slot, per_load = self._slot(step), self.weights.units_per_load
        row_scales = self._row_scales(step)
        features = range(self.warp_features // COLUMNS)
        lines = [self.across + tile * COLUMNS + self.at.g for tile in features]
        for load in range(self.stage.weight_vectors // 4):
            places = [slot + self._weight_place(line, load * 4 + self.at.t) for line in lines]
            loaded = [self._read(place) for place in places]
            scales = [self._scales(slot, self._lines(tile)) for tile in features]
            for unit in range(per_load):
                right = [self.weights.fragment(fragment, unit) for fragment in loaded]
                factors = [2 * [self.weights.scale(two, unit) for two in tile] for tile in scales]
                vector = (load * per_load + unit) * 4 + self.at.t
                for tile, row_sums in enumerate(self.sums):
                    line = self.down + tile * ROWS + self.at.g
                    upper, lower = (
                        self._read(slot + self._x_place(row, vector)) for row in (line, line + 8)
                    )
                    for sums, fragment, four in zip(row_sums, right, factors, strict=True):
                        scaled = four or row_scales[tile]
                        add_product(self.weights, sums, (upper, lower), fragment, scaled)

    def _row_scales(self, step: Expr) -> list[list[Expr]]:
        """For each tile of rows what a lane's four sums are multiplied by, if x has scales."""
        return [[] for _ in self.sums]

    def _scales(self, slot: Expr, lines: Sequence[Expr]) -> list[Buffer]:
        """The words of the scales of some of the tile's features, or nothing."""
        if not self.stage.scale_vectors:
            return []
        count, found = self.weights.scale_words, []
        for line in lines:
            loaded = words(count)
            place = pointer(self.shared, slot + self.stage.scales_start + line)
            emit(f"load_shared{4 * count}", pointer(loaded, 0), place)
            found.append(loaded)
        return found

    def _lines(self, tile: int) -> list[Expr]:
        """The two features of a lane's sums, in the block's tile."""
        first = self.across + tile * COLUMNS + self.at.t * 2
        return [first, first + 1]

    def _features(self, tile: int) -> list[Expr]:
        start = self.block * self.stage.features
        return [let(start + index(line), "int64") for line in self._lines(tile)]

    def _write(self) -> None:
        for tile in range(0, self.warp_features // COLUMNS, 2):
            for column, feature in enumerate(self._features(tile)):
                rows = []
                for down, row_sums in enumerate(self.sums):
                    for half in range(2):
                        line = self.down + (down * ROWS + 8 * half) + self.at.g
                        row = let(self.band * self.stage.rows + index(line), "int64")
                        place = 2 * half + column
                        rows.append((row, (row_sums[tile][place], row_sums[tile + 1][place])))
                self.epilogue.store(feature, rows)


def _swizzled(line: Expr, vector: Expr) -> Expr:
    return vector ^ (tirx.floormod(line, 2) * 4)
