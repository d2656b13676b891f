"""Turn one tile of int8 rows and 4-bit weights into sums over K by int8 dot products.

A weight is a nibble, less 8, times the multiplier of its group. A few rows take the nibbles as they
are, start each group from -8 * sum(its activations), and multiply the group's sum: two operations a
row. Where many rows come, nibbles become bytes first, (nibble - 8) * multiplier + 128, once for all
of them, and the sums of a whole run are products of bytes (`cpu_dot.py`).

Both are whole numbers: of 128 products of up to 120 and 127, less than 2^21, so a float32 holds
them and every sum on the way exactly, and a row's result is the same either way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from tvm import tirx

from ingot.compile.kernels.matmul.cpu_dot import DotTiles, bits_of_bytes, load_quads
from ingot.compile.kernels.matmul.cpu_int8_rows import QUADS, sum_lanes
from ingot.compile.kernels.matmul.element import multipliers, superblock_scale
from ingot.compile.kernels.matmul.spec import QUAD
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    fma,
    index,
    let,
    load,
    serial_or_once,
    splat,
    store,
)

# What makes codes unsigned: a nibble is its code, -8 to 7, plus this.
NIBBLE_OFFSET = 8


class NibbleTiles(DotTiles):
    """Emits the sums of a tile whose weights are nibbles, or were."""

    unpacks = True  # into bytes, where several tiles of rows read a block
    unpacked: Buffer | None = None

    def fitting_rows(self, registers: int) -> int:
        """The sums of a group and those of its run have registers of their own."""
        return registers // (2 * self.cut.vectors)

    def prepare(self, n: Expr) -> None:
        self.start_of_groups = T.alloc_buffer((n, self.cut.groups), "int32")
        super().prepare(n)

    def store_starts(self, row: Expr, run: Expr, totals: list[Expr]) -> None:
        super().store_starts(row, run, totals)
        for number, total in enumerate(totals):
            start = sum_lanes(total) * tirx.const(-NIBBLE_OFFSET, "int32")
            T.buffer_store(self.start_of_groups, start, [row, run * len(totals) + number])

    def add_up(self, block: Expr, row: Expr, rows: int, run: Expr) -> list[Expr]:
        if self.unpacked is not None:
            return super().add_up(block, row, rows, run)
        lanes, vectors, together = self.cut.lanes, self.cut.vectors, self.cut.groups_per_run
        of_run = [Register(lanes, 0.0) for _ in range(rows * vectors)]
        dots = [Register(lanes, dtype="int32") for _ in range(rows * vectors)]
        with serial_or_once(together) as number:
            group = run * together + number
            self.ask_ahead(rows, block, group)
            for i, dot in enumerate(dots):
                dot.set(splat(self.start_of_groups[row + i // vectors, group], lanes))
            for quad, codes in self.quads_of_nibbles(block, group):
                self.add_quad(dots, codes, row, rows, group, quad)
            for v in range(vectors):
                words = multipliers(self._words(block, run, v), number, lanes)
                multiplier = let(tirx.Cast(f"float32x{lanes}", words), lanes)
                for r in range(rows):
                    i = r * vectors + v
                    dot = tirx.Cast(f"float32x{lanes}", dots[i].value)
                    of_run[i].set(fma(dot, multiplier, of_run[i].value, lanes))
        return [total.value for total in of_run]

    def quads(self, block: Expr, group: Expr) -> Iterator[tuple[int, list[Expr]]]:
        for quad in range(QUADS):
            yield quad, load_quads(self.unpacked, (group, index(quad)), self.cut)

    def ask_ahead(self, rows: int, block: Expr, group: Expr) -> None:
        if self.unpacked is None:
            super().ask_ahead(rows, block, group)

    def weight_scale(self, block: Expr, run: Expr, v: int) -> Expr:
        return let(superblock_scale(self._words(block, run, v), self.cut.lanes), self.cut.lanes)

    def quads_of_nibbles(self, block: Expr, group: Expr) -> Iterator[tuple[int, list[Expr]]]:
        """The nibbles of each quad of a group, in each vector of outputs."""
        width = QUAD * self.cut.lanes
        for packed_quad in range(QUADS // 2):
            stored = load_quads(self.packed[0], (block, group, index(packed_quad)), self.cut)
            for half in range(2):
                codes = [bits_of_bytes(code, 4 * half, 15, width) for code in stored]
                yield packed_quad + half * (QUADS // 2), codes

    def unpack(self, block: Expr) -> NibbleTiles:
        """Emit the unpacking of a block's nibbles; tiles that read the bytes."""
        width = QUAD * self.cut.lanes
        shape = (self.cut.groups, QUADS, self.cut.vectors * width)
        tiles = copy.copy(self)
        tiles.unpacked = T.alloc_buffer(shape, "uint8")
        for group, quad, codes in self.all_quads(block):
            for v, code in enumerate(codes):
                store(tiles.unpacked, (group, index(quad), index(v * width)), code, width)
        return tiles

    def all_quads(self, block: Expr) -> Iterator[tuple[Expr, int, list[Expr]]]:
        """Emit loops over all groups of a block: each with its quads, w + 128."""
        together, vectors = self.cut.groups_per_run, self.cut.vectors
        with T.serial(index(self.runs)) as run, serial_or_once(together) as number:
            group = run * together + number
            widen = [self._widening(block, run, number, v) for v in range(vectors)]
            for quad, codes in self.quads_of_nibbles(block, group):
                yield group, quad, [w(code) for w, code in zip(widen, codes, strict=True)]

    def multiplier_pairs(self, block: Expr, run: Expr, number: Expr, v: int) -> Expr:
        """The multipliers of group `number` of a run, in both halves of each lane's word."""
        lanes = self.cut.lanes
        low = let(multipliers(self._words(block, run, v), number, lanes), lanes, "uint32")
        return let(low | (low << splat(16, lanes, "uint32")), lanes, "uint32")

    def _widening(self, block: Expr, run: Expr, number: Expr, v: int) -> Callable[[Expr], Expr]:
        """What makes bytes of nibbles: (nibble - 8) * multiplier + 128."""
        lanes, width = self.cut.lanes, QUAD * self.cut.lanes
        multiplier = self.multiplier_pairs(block, run, number, v)
        all_bytes = multiplier | (multiplier << splat(8, lanes, "uint32"))
        eight = all_bytes << splat(3, lanes, "uint32")
        offset = tirx.reinterpret(f"uint8x{width}", splat(0x80808080, lanes, "uint32") - eight)
        offset = let(offset, width, "uint8")
        # A product of a nibble and a multiplier stays in its byte, so two are one of 16 bits.
        pairs = let(tirx.reinterpret(f"uint16x{2 * lanes}", multiplier), 2 * lanes, "uint16")

        def widen(codes: Expr) -> Expr:
            products = tirx.reinterpret(f"uint16x{2 * lanes}", codes) * pairs
            return let(tirx.reinterpret(f"uint8x{width}", products) + offset, width, "uint8")

        return widen

    def _words(self, block: Expr, run: Expr, v: int) -> Expr:
        lanes = self.cut.lanes
        return load(self.packed[1], (block, run, index(v * lanes)), lanes)
