"""Up to 64 rows of x to chunks of them in shared memory, rounded to 16 bits, for one block.

4-bit weights may be multiplied `ABOVE` what they mean: the sums of a group then start with as much
less, which is a sum of the group's inputs that is made here, once for all features of a block.
"""

from __future__ import annotations

from dataclasses import replace

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP, add, let, reduce_warp
from ingot.compile.kernels.matmul.cuda_inputs import FOUR, Four, Inputs
from ingot.compile.kernels.matmul.cuda_tiling import PAIR, FewRowsTiling
from ingot.compile.kernels.matmul.cuda_weights import ABOVE, Weights
from ingot.compile.kernels.matmul.spec import GROUP
from ingot.compile.kernels.tensor_core import (
    COLUMNS,
    emit,
    half_of,
    int32,
    pair,
    pointer,
    words,
)
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, ceil_div, index, otherwise_if

# Fours that a thread asks for before it waits for the first: eight take a block's registers.
AT_ONCE = 4
GROUP_FOURS = GROUP // FOUR


class StagedRows:
    """Emits what a block does with x. `shared` has the rows from its first word on, `norm_scales`
    and `group_sums` say where in it the scales of rows are, and what sums of groups start with."""

    def __init__(
        self,
        tiling: FewRowsTiling,
        x: Inputs,
        weights: Weights,
        thread: Expr,
        shared: Buffer,
        places: tuple[int, int],
        *,
        is_above: bool,
    ) -> None:
        self.tiling, self.weights, self.thread = tiling, weights, thread
        self.n, self.shared, self.is_above = int32(x.n), shared, is_above
        self.norm_scales, self.group_sums = places
        self.x = replace(x, scale=self._norm_scale)
        self.first_four = Four(self.x) if tiling.row_tiles == 1 else None

    def write_norm_scales(self) -> None:
        """A barrier comes before the first chunk, which takes them."""

        def write(row: Expr, scale: Expr) -> None:
            bits = tirx.reinterpret("uint32", scale)
            T.buffer_store(self.shared, bits, [int32(row) + self.norm_scales])

        self.x.write_scales(write, index(self.thread), self.tiling.threads // WARP)

    def _norm_scale(self, row: Expr) -> Expr:
        scale = words(1)
        place = pointer(self.shared, int32(row) + self.norm_scales)
        emit("load_shared4", pointer(scale, 0), place)  # TVM would take it for what is written next
        return let(tirx.reinterpret("float32", scale[0]))

    def ask(self, chunk: Expr, exists: Expr) -> None:
        """Begin to read a thread's first four inputs of a chunk, all that it has of a single row,
        while the chunk before is multiplied. Of many rows they would be few, and registers are."""
        if self.first_four is not None:
            self._read(self.first_four, self.thread, chunk, exists)

    def stage(self, chunk: Expr) -> None:
        """Put the chunk's inputs of all rows into shared memory, in pairs of 16 bits."""
        threads, total = self.tiling.threads, self.n * (self.tiling.chunk // FOUR)
        start = 0
        if self.first_four is not None:
            start = threads
            self._store(self.first_four, self.thread)
        with T.serial(ceil_div(total - start, threads * AT_ONCE)) as step:
            found = []
            for part in range(AT_ONCE):
                number = (step * AT_ONCE + part) * threads + self.thread + start
                number = let(number, "int32")
                four = Four(self.x)
                self._read(four, number, chunk, tirx.const(True, "bool"))
                found.append((four, number))
            for four, number in found:
                self._store(four, number)

    def starts(self, row: Expr, group: Expr) -> list[Expr] | None:
        """What a lane's four sums of a group of the chunk start with: of rows `row`, `row + 1`."""
        if not self.is_above:
            return None
        two = words(2)
        place = pointer(self.shared, self._group_sum_place(row, group))
        emit("load_shared8", pointer(two, 0), place)
        return 2 * [tirx.reinterpret("float32", two[i]) for i in range(2)]

    def _place_of(self, number: Expr) -> tuple[Expr, Expr]:
        """Of a chunk's inputs, four by four: a four's row, and its number in the row. A warp's are
        of one row."""
        fours = self.tiling.chunk // FOUR
        return tirx.floordiv(number, fours), tirx.floormod(number, fours)

    def _read(self, four: Four, number: Expr, chunk: Expr, exists: Expr) -> None:
        row, place = self._place_of(number)
        k = let(int32(chunk) * self.tiling.chunk + place * FOUR, "int32")
        has_input = tirx.And(row < self.n, k < self.weights.spec.in_features)
        four.read(row, k, tirx.And(exists, has_input))

    def _store(self, four: Four, number: Expr) -> None:
        row, place = self._place_of(number)
        dtype = self.weights.dtype
        with otherwise_if(row < self.n):
            a, b, c, d = four.values(row)
            pairs = [let(pair(*two, dtype), "uint32") for two in ((a, b), (c, d))]
            words_before = row * self.tiling.row_words() + place * (FOUR // PAIR)
            emit("store_shared8", pointer(self.shared, words_before), *pairs)
            if self.is_above:
                values = [half_of(two, c, dtype) for two in pairs for c in range(2)]
                self._store_group_sum(row, place, values)

    def _store_group_sum(self, row: Expr, four: Expr, values: list[Expr]) -> None:
        own = let((values[0] + values[1]) + (values[2] + values[3]))
        total = reduce_warp(own, add, lanes=GROUP_FOURS)
        with otherwise_if(tirx.floormod(four, GROUP_FOURS) == 0):
            bits = tirx.reinterpret("uint32", total * tirx.const(-float(ABOVE), "float32"))
            place = self._group_sum_place(row, tirx.floordiv(four, GROUP_FOURS))
            T.buffer_store(self.shared, bits, [place])

    def _group_sum_place(self, row: Expr, group: Expr) -> Expr:
        return group * (self.tiling.row_tiles * COLUMNS) + row + self.group_sums
