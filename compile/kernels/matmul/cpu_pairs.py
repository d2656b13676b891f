"""Turn one tile of int8 rows and 4-bit weights into sums over K by products of pairs of bytes.

For CPUs without dot products of four: two products go into an int16 lane, and the sums of a group
are multiplied by its multiplier when pairs of lanes become one of int32. Both lanes of a pair start
from -4 * sum(the group's activations), -8 times it in all, for nibbles are w + 8.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.matmul.cpu_int8_rows import Int8Rows, sum_lanes
from ingot.compile.kernels.matmul.cpu_nibbles import NIBBLE_OFFSET, NibbleTiles
from ingot.compile.kernels.matmul.dot_instructions import PairProducts
from ingot.compile.kernels.vector_ir import Expr, Register, T, let, serial_or_once, splat
from ingot.targets.target import Target


class PairTiles(NibbleTiles):
    """Emits the rounding of the rows and the sums of a tile."""

    unpacks = False

    def use_instructions(self, target: Target) -> int:
        self.pairs = PairProducts(self.cut.lanes)
        return self.pairs.spare_registers

    def prepare(self, n: Expr) -> None:
        self.x_rows = Int8Rows(self.x, self.cut, n, self.more_rows)
        self.start = T.alloc_buffer((n, self.cut.groups), "int16")
        self.x_rows.emit(self.store_starts)

    def store_starts(self, row: Expr, run: Expr, totals: list[Expr]) -> None:
        for number, total in enumerate(totals):
            start = sum_lanes(total) * tirx.const(-NIBBLE_OFFSET // 2, "int32")
            where = [row, run * len(totals) + number]
            T.buffer_store(self.start, tirx.Cast("int16", start), where)

    def add_up(self, block: Expr, row: Expr, rows: int, run: Expr) -> list[Expr]:
        lanes, vectors, together = self.cut.lanes, self.cut.vectors, self.cut.groups_per_run
        dots = [Register(lanes, splat(0, lanes, "int32"), "int32") for _ in range(rows * vectors)]
        partial = [Register(2 * lanes, dtype="int16") for _ in dots]
        with serial_or_once(together) as number:
            group = run * together + number
            self.ask_ahead(rows, block, group)
            for i, pair in enumerate(partial):
                pair.set(splat(self.start[row + i // vectors, group], 2 * lanes))
            for quad, codes in self.quads_of_nibbles(block, group):
                for r in range(rows):
                    x = self.x_rows.quad(row + r, group, quad)
                    for v in range(vectors):
                        pair = partial[r * vectors + v]
                        pair.set(pair.value + self.pairs.multiply(codes[v], x))
            for v in range(vectors):
                words = self.multiplier_pairs(block, run, number, v)
                by = let(tirx.reinterpret(f"int16x{2 * lanes}", words), 2 * lanes, "int16")
                for r in range(rows):
                    dot = dots[r * vectors + v]
                    dot.set(dot.value + self.pairs.widen(partial[r * vectors + v].value, by))
        return [tirx.Cast(f"float32x{lanes}", dot.value) for dot in dots]
