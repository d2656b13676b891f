"""Turn one tile of int8 rows and 6-bit weights into sums over K by int8 dot products.

A weight is stored as w + 32 in two parts: its low four bits in a nibble, its high two in a plane of
their own, where a byte has those of four quads. A byte made of both is below 128, the same with a
sign and without, so every instruction takes it, from sums that start at -32 * sum(activations).
Tiles of rows make their bytes anew: storing them once for all took longer.
"""

from __future__ import annotations

from collections.abc import Iterator

from ingot.compile.kernels.matmul.cpu_dot import DotTiles, bits_of_bytes, load_quads
from ingot.compile.kernels.matmul.cpu_int8_rows import QUADS
from ingot.compile.kernels.matmul.spec import QUAD
from ingot.compile.kernels.vector_ir import Expr, index, let
from ingot.targets.target import Target

HALF = QUADS // 2


class SixBitTiles(DotTiles):
    """Emits the sums of a tile whose weights are nibbles and high bits."""

    offset = 32

    def use_instructions(self, target: Target) -> int:
        registers = super().use_instructions(target)
        self.starts = True
        return registers + 1  # the mask of the high bits

    def operand(self, code: Expr) -> Expr:
        return code

    def quads(self, block: Expr, group: Expr) -> Iterator[tuple[int, list[Expr]]]:
        width = QUAD * self.cut.lanes
        planes = [self._load(block, group, HALF + half) for half in range(2)]
        for j in range(HALF):
            stored = self._load(block, group, j)
            for half in range(2):
                codes = []
                for code, plane in zip(stored, planes[half], strict=True):
                    low = bits_of_bytes(code, 4 * half, 15, width)
                    high = bits_of_bytes(plane, 2 * j - 4, 48, width)
                    codes.append(let(low | high, width, "uint8"))
                yield j + half * HALF, codes

    def _load(self, block: Expr, group: Expr, row: int) -> list[Expr]:
        return load_quads(self.packed[0], (block, group, index(row)), self.cut)
