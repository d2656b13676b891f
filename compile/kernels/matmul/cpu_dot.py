"""Turn one tile of int8 rows and weights into sums over K by int8 dot products.

The rows are rounded first (`cpu_int8_rows.py`). The dot instruction multiplies unsigned by signed,
so weights are taken as w + 128 and the sums of a run start from -128 * sum(its activations). Within
a run the sums are exact integers; then

    sum += dot * (weight scale * activation scale)        in float32, runs in ascending order
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from tvm import tirx

from ingot.compile.kernels.amx import TILE_ROWS
from ingot.compile.kernels.matmul.cpu_int8_rows import QUADS, Int8Rows, sum_lanes
from ingot.compile.kernels.matmul.dot_instructions import dot_instruction
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
PREFETCH_BYTES = 16384


class DotTiles:
    """Emits the rounding of the rows and the sums of a tile whose weights are bytes."""

    offset = 128  # what is added to a signed weight to make it a byte without a sign

    def __init__(
        self, spec: LinearSpec, target: Target, cut: Layout, x: Buffer, packed: list[Buffer]
    ) -> None:
        self.spec, self.cut, self.x, self.packed = spec, cut, x, packed
        self.runs = cut.groups // cut.groups_per_run
        spare = self.use_instructions(target) + EXTRA_VECTORS * cut.vectors
        fitting = self.fitting_rows(target.vector_registers - spare)
        self.rows = target.size("matmul_dot_rows", max(LEAST_ROWS, fitting))
        self.prefetch_bytes = target.size("matmul_prefetch_bytes", PREFETCH_BYTES)
        self.row_bytes = cut.groups * QUADS * QUAD + 8 * self.runs
        # Matrix tiles read whole tiles of rows and drop what they make of those that aren't there.
        self.more_rows = TILE_ROWS - 1 if has_byte_tiles(target) else 0

    def use_instructions(self, target: Target) -> int:
        """Choose them; how many registers they need of their own."""
        self.instruction = dot_instruction(target)
        self.starts = self.instruction.starts
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
        self.x_rows.emit(self.store_starts)

    def store_starts(self, row: Expr, run: Expr, totals: list[Expr]) -> None:
        """What the sums of a run begin from; `totals` are vectors that add up to its groups'."""
        total = sum_lanes(functools.reduce(lambda a, b: a + b, totals))
        T.buffer_store(self.start, total * tirx.const(-self.offset, "int32"), [row, run])

    def accumulate(self, sums: list[Register], block: Expr, row: Expr, rows: int) -> None:
        vectors = self.cut.vectors
        with T.serial(index(self.runs)) as run:
            dots = self.add_up(block, row, rows, run)
            for v in range(vectors):
                scale = self.weight_scale(block, run, v)
                for r in range(rows):
                    i = r * vectors + v
                    self.add_scaled(sums[i], dots[i], scale, self.x_rows.scale[row + r, run])

    def add_up(self, block: Expr, row: Expr, rows: int, run: Expr) -> list[Expr]:
        """Emit the sums of a run: float32, whole numbers."""
        lanes, vectors, together = self.cut.lanes, self.cut.vectors, self.cut.groups_per_run
        dots = [Register(lanes, dtype="int32") for _ in range(rows * vectors)]
        for r in range(rows):
            start = self.start[row + r, run] if self.starts else tirx.const(0, "int32")
            for v in range(vectors):
                dots[r * vectors + v].set(splat(start, lanes))
        with serial_or_once(together) as number:
            group = run * together + number
            self.ask_ahead(rows, block, group)
            for quad, codes in self.quads(block, group):
                weights = [self.operand(code) for code in codes]
                self.add_quad(dots, weights, row, rows, group, quad)
        return [tirx.Cast(f"float32x{lanes}", dot.value) for dot in dots]

    def all_quads(self, block: Expr) -> Iterator[tuple[Expr, int, list[Expr]]]:
        """Emit a loop over all groups of a block: each with its quads, w + offset."""
        with T.serial(index(self.cut.groups)) as group:
            for quad, codes in self.quads(block, group):
                yield group, quad, codes

    def quads(self, block: Expr, group: Expr) -> Iterator[tuple[int, list[Expr]]]:
        """The quads of a group, in each vector of outputs, w + offset."""
        for quad in range(QUADS):
            yield quad, load_quads(self.packed[0], (block, group, index(quad)), self.cut)

    def operand(self, code: Expr) -> Expr:
        """What the instruction takes of weights, made once for all rows."""
        return self.instruction.weights(code)

    def add_quad(
        self,
        dots: list[Register],
        weights: list[Expr],
        row: Expr,
        rows: int,
        group: Expr,
        quad: int,
    ) -> None:
        """Add the products of a quad of inputs to the sums of each row and vector."""
        for r in range(rows):
            x = self.x_rows.quad(row + r, group, quad)
            for v, weight in enumerate(weights):
                dot = dots[r * len(weights) + v]
                dot.set(self.instruction.add(dot.value, weight, x))

    def ask_ahead(self, rows: int, block: Expr, group: Expr) -> None:
        """Ask for the weights of a later group; those of the next block follow a block's last."""
        if rows < PREFETCH_ROWS:
            return
        weight = self.packed[0]
        quads, width = (int(extent) for extent in weight.shape[2:])
        ahead = group + max(1, self.prefetch_bytes // (quads * width))
        for quad in range(quads):
            for byte in range(0, width, CACHE_LINE_BYTES):
                prefetch(weight, (block, ahead, index(quad), index(byte)))

    def weight_scale(self, block: Expr, run: Expr, v: int) -> Expr | None:
        """The scales of one vector of outputs in one run; none where a row has one scale."""
        if not self.spec.format.group_size:
            return None
        lanes = self.cut.lanes
        stored = load(self.packed[1], (block, run, index(v * lanes)), lanes)
        return let(tirx.Cast(f"float32x{lanes}", stored), lanes)

    def add_scaled(self, total: Register, dot: Expr, scale: Expr | None, x_scale: Expr) -> None:
        """Add the float32 sums of a run, times their scales, to the sums over K."""
        lanes = self.cut.lanes
        both = splat(x_scale, lanes)
        if scale is not None:
            both = both * scale
        total.set(fma(dot, both, total.value, lanes))


def load_quads(buffer: Buffer, where: tuple[Expr, ...], cut: Layout) -> list[Expr]:
    """The bytes of a block's vectors that lie side by side from `where` on."""
    width = QUAD * cut.lanes
    return [
        let(load(buffer, (*where, index(v * width)), width), width, "uint8")
        for v in range(cut.vectors)
    ]


def bits_of_bytes(stored: Expr, shift: int, mask: int, width: int) -> Expr:
    """`stored >> shift & mask` of each byte; a negative shift goes left.

    As words: x86 shifts no bytes, and what LLVM takes instead competes with the dot products.
    """
    words = width // 4
    packed = tirx.reinterpret(f"uint32x{words}", stored)
    if shift > 0:
        packed = packed >> splat(shift, words, "uint32")
    elif shift < 0:
        packed = packed << splat(-shift, words, "uint32")
    packed = packed & splat(mask * 0x01010101, words, "uint32")
    return let(tirx.reinterpret(f"uint8x{width}", packed), width, "uint8")
