"""Up to 64 rows of x by a weight matrix: each weight is read from memory once, 16 bytes at a time.

A block computes out[0:n, 16 * across features]; a warp 16 features, as the rows of a matrix
instruction, by all rows of x, as its columns, 8 at a time. The `along` warps of the same features
share the inputs and add up in shared memory at the end; blocks share them as well where there are
too few features (`cuda_splits.py`). x goes through shared memory in 16 bits, `chunk` inputs at a
time. So do weights, packed and through `stages` of a warp's own: each lane copies in the background
what it reads itself, which needs no barrier, and as much is on its way while x is exchanged.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import (
    DYNAMIC,
    WARP,
    Local,
    barrier,
    dynamic_shared,
    launch,
    let,
)
from ingot.compile.kernels.matmul.cuda_epilogue import Epilogue, add_product
from ingot.compile.kernels.matmul.cuda_few_inputs import StagedRows
from ingot.compile.kernels.matmul.cuda_inputs import Inputs
from ingot.compile.kernels.matmul.cuda_splits import Splits
from ingot.compile.kernels.matmul.cuda_tiling import PAIR, FewRowsTiling
from ingot.compile.kernels.tensor_core import (
    COLUMNS,
    LANE_WORDS,
    ROWS,
    UNIT_WORDS,
    Lane,
    emit,
    int32,
    pointer,
    words,
    zeros,
)
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index, minimum, otherwise_if


class FewRows:
    """Emits the steps of one block."""

    inputs_per_word = PAIR

    def __init__(
        self,
        tiling: FewRowsTiling,
        splits: Splits,
        x: Inputs,
        epilogue: Epilogue,
        block: Expr,
        thread: Expr,
    ) -> None:
        self.tiling, self.splits, self.epilogue = tiling, splits, epilogue
        self.thread = int32(thread)
        self.weights = weights = epilogue.weights
        self.at = Lane.of(thread)
        self.across = tirx.floordiv(self.at.warp, tiling.along)
        self.along = tirx.floormod(self.at.warp, tiling.along)
        self.tile, self.split = splits.place(block)
        first = self.tile * tiling.features + index(self.across * ROWS + self.at.g)
        last = index(weights.spec.out_features - 1)
        self.first = let(first, "int64")
        rows = [let(minimum(self.first + 8 * half, last), "int64") for half in range(2)]
        self.row_words = tiling.row_words(self.inputs_per_word)
        # Of 4-bit weights: more rows share what it takes to bring them down.
        self.is_above = weights.bits == 4 and tiling.row_tiles <= 2
        # x, or the sums, then the norm's scales, what sums of groups start with, and the stages.
        # One buffer: TVM asks the driver for more than 48 KB by what is dynamic alone.
        norm_scales = tiling.shared_words(self.inputs_per_word)
        group_sums = norm_scales + tiling.row_tiles * COLUMNS
        self.ring = group_sums + (tiling.group_sums if self.is_above else 0)
        self.stage_words = tiling.stage_words(weights)
        self.shared = dynamic_shared(self.ring + tiling.stages * self.stage_words, "uint32")
        places = (norm_scales, group_sums)
        self.inputs = StagedRows(
            tiling, x, weights, self.thread, self.shared, places, is_above=self.is_above
        )
        self.sums = [zeros(4) for _ in range(tiling.row_tiles)]
        self.own_loads = tiling.chunk // weights.inputs_per_load // tiling.along
        assert self.own_loads * tiling.along * weights.inputs_per_load == tiling.chunk, tiling
        share = splits.chunks * self.own_loads  # of a warp's loads; its neighbours are other warps'
        load = let(self.split * (share * tiling.along) + index(self.along), "int64")
        exist = tirx.floordiv(weights.loads - load + (tiling.along - 1), tiling.along)
        self.num_loads = let(int32(minimum(exist, index(share))), "int32")
        self.is_whole = weights.loads == share * tiling.along * splits.count
        # Where in the packed tensors a lane's next copies are from: kept, or every copy would
        # multiply 64-bit numbers.
        self.sources = [Local(weights.place(row, load, self.at.t), "int64") for row in rows]
        self.scale_sources: list[Local] = []
        if weights.scale_words:
            scales = [weights.scale_place(row, load) for row in rows]
            self.scale_sources = [Local(place, "int64") for place in scales]

    def run(self) -> None:
        ahead = self.tiling.stages - 1
        for own in range(ahead):
            self._fetch(tirx.const(own, "int32"), tirx.const(own * self.stage_words, "int32"))
        first = let(self.split * self.splits.chunks, "int64")
        self._ask(first, tirx.const(True, "bool"))
        self.inputs.write_norm_scales()
        last = tirx.const(ahead * self.stage_words, "int32")
        slot, free = Local(0, "int32"), Local(last, "int32")
        with T.serial(index(self.splits.chunks)) as chunk:
            barrier(DYNAMIC)  # the last chunk of x has been read, and the norm's scales are there
            self._stage(first + chunk)
            barrier(DYNAMIC)
            self._ask(first + chunk + 1, chunk + 1 < self.splits.chunks)
            for own in range(self.own_loads):
                number = let(int32(chunk) * self.own_loads + own, "int32")
                emit(f"wait_copies<{ahead - 1}>")
                fragments, scales = self._loaded(slot.value)
                self._fetch(number + ahead, free.value)
                free.set(slot.value)
                after = slot.value + self.stage_words
                slot.set(tirx.Select(slot.value == last, tirx.const(0, "int32"), after))
                if self.is_whole:
                    self._multiply(own, fragments, scales)
                    continue
                with otherwise_if(number < self.num_loads):
                    self._multiply(own, fragments, scales)
        if self.tiling.along > 1:
            barrier(DYNAMIC)
            self._add_up()
        place = (self.across * WARP + self.at.lane, self.along == 0)
        flag = self.shared  # whose first word nobody reads any more
        self.splits.finish(self.tile, self.split, self.thread, place, self.sums, flag, self._store)

    def _store(self) -> None:
        with otherwise_if(self.along == 0):
            self.epilogue.store(self.first, self._own_sums())

    def _fetch(self, number: Expr, slot: Expr) -> None:
        """Start to copy a lane's 16 bytes of both its features, and their scales, to a stage: those
        of this warp's loads that come next. A group of copies ends in any case: the waits count
        groups."""
        weights, along = self.weights, self.tiling.along
        with otherwise_if(number < self.num_loads):
            for half, source in enumerate(self.sources):
                place = pointer(self.shared, self._ring_place(slot, half))
                emit("copy_async16", place, weights.pointer_at(source.value))
            for half, source in enumerate(self.scale_sources):
                place = pointer(self.shared, self._ring_place(slot, half, scales=True))
                name = f"copy_async{4 * weights.scale_words}"
                emit(name, place, weights.scale_pointer_at(source.value))
        emit("commit_copies")
        for source in self.sources:
            source.set(source.value + weights.elements_per_load * along)
        for source in self.scale_sources:
            source.set(source.value + weights.units_per_load * along)

    def _ring_place(self, slot: Expr, half: int, *, scales: bool = False) -> Expr:
        """The lane's words of a load: 16 bytes of all lanes lie together, then all scales."""
        count = self.weights.scale_words if scales else LANE_WORDS
        start = 2 * LANE_WORDS * self.tiling.threads if scales else 0
        start += self.ring + half * count * self.tiling.threads
        return slot + start + self.thread * count

    def _loaded(self, slot: Expr) -> tuple[list[Buffer], list[Buffer]]:
        """What has been copied: the words of both features, and their scales."""
        fragments, scales = [words(LANE_WORDS) for _ in range(2)], []
        for half, fragment in enumerate(fragments):
            place = pointer(self.shared, self._ring_place(slot, half))
            emit("load_shared16", pointer(fragment, 0), place)
        if count := self.weights.scale_words:
            scales = [words(count) for _ in range(2)]
            for half, two in enumerate(scales):
                place = pointer(self.shared, self._ring_place(slot, half, scales=True))
                emit(f"load_shared{4 * count}", pointer(two, 0), place)
        return fragments, scales

    def _ask(self, chunk: Expr, exists: Expr) -> None:
        """Begin to read a chunk of x."""
        self.inputs.ask(chunk, exists)

    def _stage(self, chunk: Expr) -> None:
        """Put a chunk of all rows of x into shared memory."""
        self.inputs.stage(chunk)

    def _multiply(self, own: int, fragments: list[Buffer], loaded: list[Buffer]) -> None:
        per_load = self.weights.units_per_load
        for number in range(per_load):
            upper, lower = (
                self.weights.fragment(fragment, number, above=self.is_above)
                for fragment in fragments
            )
            unit = (self.along + own * self.tiling.along) * per_load + number
            factors = [self.weights.scale(two, number) for two in loaded for _ in range(2)]
            for tile, sums in enumerate(self.sums):
                right = words(LANE_WORDS)
                row = self.at.g + tile * COLUMNS
                place = row * self.row_words + unit * UNIT_WORDS + self.at.t * LANE_WORDS
                emit("load_shared16", pointer(right, 0), pointer(self.shared, place))
                scales = factors or self._row_scales(tile, unit)
                starts = self.inputs.starts(self.at.t * 2 + tile * COLUMNS, unit)
                add_product(self.weights, sums, (upper, lower), right, scales, starts)

    def _row_scales(self, tile: int, unit: Expr) -> list[Expr]:
        """What a lane's four sums of a unit are multiplied by, if x has scales."""
        return []

    def _add_up(self) -> None:
        """The first of the warps along the inputs gets the sum, always in the same order."""
        tiling = self.tiling
        count = 4 * tiling.row_tiles

        def place(along: Expr, i: int) -> Expr:
            return ((self.across * tiling.along + along) * count + i) * WARP + self.at.lane

        for i in range(count):
            bits = tirx.reinterpret("uint32", self.sums[i // 4][i % 4])
            T.buffer_store(self.shared, bits, [place(self.along, i)])
        barrier(DYNAMIC)
        for i in range(count):
            total = let(tirx.const(0.0, "float32"))
            for other in range(tiling.along):
                bits = self.shared[place(tirx.const(other, "int32"), i)]
                total = let(total + tirx.reinterpret("float32", bits))
            T.buffer_store(self.sums[i // 4], total, [i % 4])

    def _own_sums(self) -> list[tuple[Expr, tuple[Expr, Expr]]]:
        """A lane's rows of x, each with the sums of its two features."""
        return [
            (index(self.at.t * 2 + (tile * COLUMNS + column)), (sums[column], sums[2 + column]))
            for tile, sums in enumerate(self.sums)
            for column in range(2)
        ]


def multiply_few_rows(
    kernel: type[FewRows],
    tiling: FewRowsTiling,
    enough_blocks: int,
    x: Inputs,
    epilogue: Epilogue,
) -> None:
    """Emit the kernel for 1 <= n <= 8 * row_tiles."""
    weights = epilogue.weights
    tiling = tiling.narrowed(weights, enough_blocks)
    tiles, shares = tiling.tiles(weights), tiling.shares(weights, enough_blocks)
    splits = Splits.of(tiles, tiling.sums, *shares)
    with launch(index(tiles * splits.count), tiling.threads) as (block, thread):
        kernel(tiling, splits, x, epilogue, block, thread).run()
