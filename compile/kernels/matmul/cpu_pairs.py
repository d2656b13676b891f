"""Turn one tile of int8 rows and 4-bit weights into sums over K by products of pairs of bytes.

For CPUs without dot products of four: two products go into an int16 lane, and the sums of a group
are multiplied by its multiplier when pairs of lanes become one of int32. Both lanes of a pair start
from -4 * sum(the group's activations), -8 times it in all, for codes are w + 8.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.matmul.cpu_dot import DotTiles
from ingot.compile.kernels.matmul.cpu_int8_rows import Int8Rows, sum_lanes
from ingot.compile.kernels.matmul.dot_instructions import PairProducts
from ingot.compile.kernels.vector_ir import Expr, Register, T, let, splat
from ingot.targets.target import Target


class PairTiles(DotTiles):
    """Emits the rounding of the rows and the sums of a tile of 4-bit weights."""

    unpacks = False

    def use_instructions(self, target: Target) -> int:
        self.pairs = PairProducts(self.cut.lanes)
        return self.pairs.spare_registers

    def fitting_rows(self, registers: int) -> int:
        """The sums of a group have registers of their own."""
        return registers // (2 * self.cut.vectors)

    def prepare(self, n: Expr) -> None:
        self.x_rows = Int8Rows(self.x, self.cut, n, self.more_rows)
        self.start = T.alloc_buffer((n, self.cut.groups), "int16")

        def store_starts(row: Expr, run: Expr, totals: list[Expr]) -> None:
            for number, total in enumerate(totals):
                start = tirx.Cast("int16", sum_lanes(total) * tirx.const(-4, "int32"))
                T.buffer_store(self.start, start, [row, run * len(totals) + number])

        self.x_rows.emit(store_starts)

    def first(self, row: Expr, run: Expr) -> Expr:
        return tirx.const(0, "int32")

    def add_group(
        self, dots: list[Register], block: Expr, row: Expr, rows: int, run: Expr, number: Expr
    ) -> None:
        lanes, vectors = self.cut.lanes, self.cut.vectors
        group = run * self.cut.groups_per_run + number
        partial = [Register(2 * lanes, dtype="int16") for _ in dots]
        for r in range(rows):
            for v in range(vectors):
                partial[r * vectors + v].set(splat(self.start[row + r, group], 2 * lanes))
        for quad, codes in self.stored_quads(block, group):
            for r in range(rows):
                x = self.x_rows.quad(row + r, group, quad)
                for v in range(vectors):
                    pair = partial[r * vectors + v]
                    pair.set(pair.value + self.pairs.multiply(codes[v], x))
        for v in range(vectors):
            words = self.multiplier(block, run, number, v)
            by = let(tirx.reinterpret(f"int16x{2 * lanes}", words), 2 * lanes, "int16")
            for r in range(rows):
                dot = dots[r * vectors + v]
                dot.set(dot.value + self.pairs.widen(partial[r * vectors + v].value, by))
