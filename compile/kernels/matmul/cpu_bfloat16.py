"""Turn one tile of rows and bfloat16 weights into sums over K by bfloat16 dot products.

The rows are rounded to bfloat16 first, once each. One instruction then adds the products of two
neighbouring inputs to a float32 sum: weights are packed as such pairs, activations are broadcast
as such pairs. Sums run over the pairs in ascending order.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.bfloat16_dot import (
    bfloat16_functions,
    dot_pairs,
    round_to_bfloat16,
)
from ingot.compile.kernels.matmul.cpu_float import spare_registers
from ingot.compile.kernels.matmul.cpu_rows import load_padded
from ingot.compile.kernels.matmul.spec import Layout, LinearSpec
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    ceil_div,
    index,
    let,
    load,
    rows_in_parallel,
    splat,
)
from ingot.targets.target import Target

PAIR = 2


class Bfloat16Tiles:
    """Emits the rounding of the rows and the sums of a tile."""

    def __init__(
        self, spec: LinearSpec, target: Target, cut: Layout, x: Buffer, packed: list[Buffer]
    ) -> None:
        self.spec, self.target, self.cut = spec, target, cut
        self.x, self.weight = x, packed[0]
        free = target.vector_registers - spare_registers(target) - cut.vectors
        self.rows = free // cut.vectors
        self.row_bytes = 2 * spec.in_features

    def prepare(self, n: Expr) -> None:
        """Round the rows to pairs [n, in/2] of uint32, whole vectors of them, or whole tiles."""
        self.vectors = -(-PAIR * self.cut.pairs // self.cut.lanes)
        self.pairs = T.alloc_buffer((n, self.vectors * self.cut.lanes // PAIR), "uint32")
        with bfloat16_functions(self.target):
            rows_in_parallel(n, self.spec.in_features, self._round_row)

    def _round_row(self, row: Expr) -> None:
        whole, ragged = divmod(self.spec.in_features, self.cut.lanes)
        with T.serial(index(whole)) as vector:
            self._round_vector(row, vector, self.cut.lanes)
        for vector in range(whole, self.vectors):
            self._round_vector(row, index(vector), ragged if vector == whole else 0)

    def _round_vector(self, row: Expr, vector: Expr, inputs: int) -> None:
        lanes = self.cut.lanes
        pairs = lanes // PAIR
        value = load_padded(self.x, row, vector * lanes, inputs, lanes)
        bits = tirx.reinterpret(f"uint32x{pairs}", round_to_bfloat16(value, lanes))
        T.buffer_store(self.pairs, bits, [row, tirx.Ramp(vector * pairs, 1, pairs)])

    def accumulate(self, sums: list[Register], block: Expr, row: Expr, rows: int) -> None:
        lanes, vectors = self.cut.lanes, self.cut.vectors
        width = PAIR * lanes
        bits = f"uint16x{width}"
        with T.serial(ceil_div(index(self.spec.in_features), PAIR)) as pair:
            weights = [
                let(load(self.weight, (block, pair, index(v * width)), width), width, "uint16")
                for v in range(vectors)
            ]
            for r in range(rows):
                x = tirx.reinterpret(bits, splat(self.pairs[row + r, pair], lanes))
                broadcast = let(x, width, "uint16")
                for v in range(vectors):
                    total = sums[r * vectors + v]
                    total.set(dot_pairs(total.value, weights[v], broadcast, lanes))
