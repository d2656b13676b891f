"""Turn one tile of int8 rows and 4- or 8-bit weights into sums over K by int8 dot products.

The rows are rounded first (`cpu_int8_rows.py`). The dot instruction multiplies unsigned by signed,
so weights are taken as w + 128 and the sums of a run start from -128 * sum(its activations).
Nibbles become such bytes in registers: as many steps of their superblock's scale as they are worth.
Within a run the sums are exact integers; then

    sum += dot * (weight scale * activation scale)        in float32, runs in ascending order
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator

from tvm import tirx

from ingot.compile.kernels.amx import TILE_ROWS
from ingot.compile.kernels.matmul.cpu_int8_rows import QUADS, Int8Rows, sum_lanes
from ingot.compile.kernels.matmul.dot_instructions import dot_instruction
from ingot.compile.kernels.matmul.element import multipliers, superblock_scale
from ingot.compile.kernels.matmul.spec import QUAD, Layout, LinearSpec, has_byte_tiles
from ingot.compile.kernels.vector_ir import (
    CACHE_LINE_BYTES,
    Buffer,
    Expr,
    Register,
    T,
    fma,
    index,
    let,
    load,
    prefetch,
    serial_or_once,
    splat,
    store,
)
from ingot.targets.target import Target

# Registers that a tile needs beside its sums and dots, in units of the block's vectors: packed
# and unpacked weights, scales.
EXTRA_VECTORS = 3
# With fewer rows a tile would unpack its weights too often, whatever spills.
LEAST_ROWS = 2
# A tile of few rows waits for nothing but its weights and runs far enough ahead to keep memory
# busy. One of more rows does not: it asks for what comes some hundred cycles later.
PREFETCH_ROWS = 2
PREFETCH_BYTES = 4096
# What is added to a signed weight to make it a byte without a sign.
OFFSET = 128

Quads = Iterator[tuple[int, list[Expr]]]
"""The number of a quad in its group, and its weights in each vector of outputs."""


class DotTiles:
    """Emits the rounding of the rows and the sums of a tile."""

    def __init__(
        self, spec: LinearSpec, target: Target, cut: Layout, x: Buffer, packed: list[Buffer]
    ) -> None:
        self.spec, self.cut, self.x, self.packed = spec, cut, x, packed
        self.has_multipliers = spec.format.superblock_size > 0
        self.runs = cut.groups // cut.groups_per_run
        spare = self.use_instructions(target) + EXTRA_VECTORS * cut.vectors
        fitting = self.fitting_rows(target.vector_registers - spare)
        self.rows = target.size("matmul_dot_rows", max(LEAST_ROWS, fitting))
        self.prefetch_bytes = target.size("matmul_prefetch_bytes", PREFETCH_BYTES)
        self.row_bytes = cut.groups * QUADS * QUAD + 8 * self.runs
        # Matrix tiles read whole tiles of rows and drop what they make of those that aren't there.
        self.more_rows = TILE_ROWS - 1 if has_byte_tiles(target) else 0
        self.unpacked: Buffer | None = None

    @property
    def unpacks(self) -> bool:
        """Whether unpacking a block once pays where several tiles of rows read it."""
        return self.has_multipliers

    def use_instructions(self, target: Target) -> int:
        """Choose them; how many registers they need of their own."""
        self.instruction = dot_instruction(target)
        return self.instruction.spare_registers

    def fitting_rows(self, registers: int) -> int:
        """How many rows' sums and dots fit. Where runs are long, sums may leave their registers
        while a run is added up: then a power of two, like the tiles of the rows left over."""
        if self.cut.groups_per_run == 1:
            return registers // (2 * self.cut.vectors)
        return 1 << (registers // self.cut.vectors).bit_length() - 1

    def prepare(self, n: Expr) -> None:
        """Round the rows."""
        self.x_rows = Int8Rows(self.x, self.cut, n, self.more_rows)
        self.start = T.alloc_buffer((n, self.runs), "int32")

        def store_start(row: Expr, run: Expr, totals: list[Expr]) -> None:
            total = sum_lanes(functools.reduce(lambda a, b: a + b, totals))
            T.buffer_store(self.start, total * tirx.const(-OFFSET, "int32"), [row, run])

        self.x_rows.emit(store_start)

    def unpack(self, block: Expr) -> DotTiles:
        """Emit the unpacking of a block's nibbles; tiles that read the bytes."""
        width = QUAD * self.cut.lanes
        tiles = copy.copy(self)
        shape = (self.cut.groups, QUADS, self.cut.vectors * width)
        tiles.unpacked = T.alloc_buffer(shape, "uint8")
        for group, quad, codes in self.all_quads(block):
            for v, code in enumerate(codes):
                store(tiles.unpacked, (group, index(quad), index(v * width)), code, width)
        return tiles

    def all_quads(self, block: Expr) -> Iterator[tuple[Expr, int, list[Expr]]]:
        """Emit loops over all groups of a block: each with its quads, w + 128."""
        together = self.cut.groups_per_run
        with T.serial(index(self.runs)) as run, serial_or_once(together) as number:
            group = run * together + number
            for quad, codes in self.quads(block, run, number):
                yield group, quad, codes

    def accumulate(self, sums: list[Register], block: Expr, row: Expr, rows: int) -> None:
        lanes, vectors, together = self.cut.lanes, self.cut.vectors, self.cut.groups_per_run
        dots = [Register(lanes, dtype="int32") for _ in range(rows * vectors)]
        with T.serial(index(self.runs)) as run:
            for r in range(rows):
                start = splat(self.first(row + r, run), lanes)
                for v in range(vectors):
                    dots[r * vectors + v].set(start)
            with serial_or_once(together) as number:
                if rows >= PREFETCH_ROWS and self.unpacked is None:
                    self._prefetch(block, run * together + number)
                self.add_group(dots, block, row, rows, run, number)
            for v in range(vectors):
                scale = self.weight_scale(block, run, v)
                for r in range(rows):
                    i = r * vectors + v
                    self.add_scaled(sums[i], dots[i].value, scale, self.x_rows.scale[row + r, run])

    def first(self, row: Expr, run: Expr) -> Expr:
        """What the sums of a run begin from."""
        return self.start[row, run] if self.instruction.starts else tirx.const(0, "int32")

    def add_group(
        self, dots: list[Register], block: Expr, row: Expr, rows: int, run: Expr, number: Expr
    ) -> None:
        """Add the products of group `number` of a run to the run's sums."""
        group = run * self.cut.groups_per_run + number
        for quad, codes in self.quads(block, run, number):
            weights = [self.instruction.weights(code) for code in codes]
            for r in range(rows):
                x = self.x_rows.quad(row + r, group, quad)
                for v, weight in enumerate(weights):
                    dot = dots[r * len(weights) + v]
                    dot.set(self.instruction.add(dot.value, weight, x))

    def quads(self, block: Expr, run: Expr, number: Expr) -> Quads:
        """The weights of a group, w + 128."""
        group = run * self.cut.groups_per_run + number
        if self.unpacked is not None:
            width = QUAD * self.cut.lanes
            for quad in range(QUADS):
                where = [(group, index(quad), index(v * width)) for v in range(self.cut.vectors)]
                yield quad, [let(load(self.unpacked, w, width), width, "uint8") for w in where]
            return
        widen = [self._widening(block, run, number, v) for v in range(self.cut.vectors)]
        for quad, codes in self.stored_quads(block, group):
            yield quad, [w(code) for w, code in zip(widen, codes, strict=True)]

    def stored_quads(self, block: Expr, group: Expr) -> Quads:
        """The codes of a group as they are stored: w + 128, or nibbles in bytes."""
        four_bits = self.spec.format.bits == 4
        width = QUAD * self.cut.lanes
        for quad in range(QUADS // 2 if four_bits else QUADS):
            where = [(block, group, index(quad), index(v * width)) for v in range(self.cut.vectors)]
            stored = [let(load(self.packed[0], w, width), width, "uint8") for w in where]
            if not four_bits:
                yield quad, stored
                continue
            for half in range(2):
                yield quad + half * (QUADS // 2), [nibbles(code, half, width) for code in stored]

    def _prefetch(self, block: Expr, group: Expr) -> None:
        """Ask for the weights of a later group; those of the next block follow a block's last."""
        weight = self.packed[0]
        quads, width = (int(extent) for extent in weight.shape[2:])
        ahead = group + max(1, self.prefetch_bytes // (quads * width))
        for quad in range(quads):
            for byte in range(0, width, CACHE_LINE_BYTES):
                prefetch(weight, (block, ahead, index(quad), index(byte)))

    def multiplier(self, block: Expr, run: Expr, number: Expr, v: int) -> Expr:
        """The multipliers of group `number` of a run, in both halves of each lane's word."""
        lanes = self.cut.lanes
        words = load(self.packed[1], (block, run, index(v * lanes)), lanes)
        low = let(multipliers(words, number, lanes), lanes, "uint32")
        return let(low | (low << splat(16, lanes, "uint32")), lanes, "uint32")

    def _widening(self, block: Expr, run: Expr, number: Expr, v: int) -> Callable[[Expr], Expr]:
        """What makes w + 128 of stored codes: (code - 8) * multiplier + 128 of nibbles."""
        if not self.has_multipliers:
            return lambda codes: codes
        lanes, width = self.cut.lanes, QUAD * self.cut.lanes
        multiplier = self.multiplier(block, run, number, v)
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

    def weight_scale(self, block: Expr, run: Expr, v: int) -> Expr | None:
        """The scales of one vector of outputs in one run; none where a row has one scale."""
        if not self.spec.format.group_size:
            return None
        lanes = self.cut.lanes
        stored = load(self.packed[1], (block, run, index(v * lanes)), lanes)
        if self.has_multipliers:
            return let(superblock_scale(stored, lanes), lanes)
        return let(tirx.Cast(f"float32x{lanes}", stored), lanes)

    def add_scaled(self, total: Register, dot: Expr, scale: Expr | None, x_scale: Expr) -> None:
        """Add the sums of a run, times their scales, to the sums over K."""
        lanes = self.cut.lanes
        both = splat(x_scale, lanes)
        if scale is not None:
            both = both * scale
        total.set(fma(tirx.Cast(f"float32x{lanes}", dot), both, total.value, lanes))


def nibbles(stored: Expr, half: int, width: int) -> Expr:
    """The low or the high nibbles of bytes, as bytes."""
    # As words: x86 shifts no bytes, and what LLVM takes instead competes with the dot products.
    words = width // 4
    packed = tirx.reinterpret(f"uint32x{words}", stored)
    if half:
        packed = packed >> splat(4, words, "uint32")
    packed = packed & splat(0x0F0F0F0F, words, "uint32")
    return let(tirx.reinterpret(f"uint8x{width}", packed), width, "uint8")
