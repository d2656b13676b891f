"""Turn one tile of int8 rows and 4- or 8-bit weights into sums over K by int8 dot products.

The rows are rounded first, each group of 32 to its own scale (`reference.round_activations`). The
dot instruction multiplies unsigned by signed, so weights are stored as w + offset and every group
starts from -offset * sum(its activations). Within a group the sums are exact integers; then

    sum += dot * (weight scale * activation scale)        in float32, groups in ascending order
"""

from __future__ import annotations

import functools

from tvm import tirx

from ingot.compile.kernels.amx import TILE_ROWS
from ingot.compile.kernels.matmul.cpu_rows import load_padded
from ingot.compile.kernels.matmul.dot_instructions import DotInstruction, dot_instruction
from ingot.compile.kernels.matmul.reference import SMALLEST_GROUP_MAXIMUM
from ingot.compile.kernels.matmul.spec import GROUP, QUAD, Layout, LinearSpec, has_byte_tiles
from ingot.compile.kernels.vector_ir import (
    CACHE_LINE_BYTES,
    Buffer,
    Expr,
    Register,
    T,
    dtype_of,
    fma,
    index,
    let,
    load,
    maximum,
    prefetch,
    splat,
    store,
)
from ingot.targets.target import Target

QUADS = GROUP // QUAD
# Registers that a tile needs beside its sums and dots, in units of the block's vectors: packed
# and unpacked weights, scales.
EXTRA_VECTORS = 3
# With fewer rows a tile would unpack its weights too often, whatever spills.
LEAST_ROWS = 2
# A tile of few rows waits for nothing but its weights and runs far enough ahead to keep memory
# busy. One of more rows does not: it asks for what comes some hundred cycles later.
PREFETCH_ROWS = 2
PREFETCH_BYTES = 4096
# From this many groups on, rounding them is worth starting the other threads: a group takes some
# 12 ns on a 3 GHz core, threads that are awake take a few microseconds to start.
PARALLEL_GROUPS = 512


class DotTiles:
    """Emits the rounding of the rows and the sums of a tile."""

    def __init__(
        self, spec: LinearSpec, target: Target, cut: Layout, x: Buffer, packed: list[Buffer]
    ) -> None:
        self.spec, self.cut, self.x, self.packed = spec, cut, x, packed
        self.instruction: DotInstruction = dot_instruction(target, spec.format.bits)
        self.offset = 1 << (spec.format.bits - 1)
        used = self.instruction.spare_registers + EXTRA_VECTORS * cut.vectors
        fitting = max(LEAST_ROWS, (target.vector_registers - used) // (2 * cut.vectors))
        self.rows = target.size("matmul_dot_rows", fitting)
        self.prefetch_bytes = target.size("matmul_prefetch_bytes", PREFETCH_BYTES)
        self.row_bytes = cut.groups * (GROUP + 8)
        # Matrix tiles read whole tiles of rows and drop what they make of those that aren't there.
        self.more_rows = TILE_ROWS - 1 if has_byte_tiles(target) else 0

    def prepare(self, n: Expr) -> None:
        """Round the rows: quads [n, groups * 8] as int32, and of each group scale and start."""
        groups = self.cut.groups
        self.quads = T.alloc_buffer((n + self.more_rows, groups * QUADS), "int32")
        self.scale = T.alloc_buffer((n + self.more_rows, groups), "float32")
        self.start = T.alloc_buffer((n, groups), "int32")
        with T.If(n * groups < PARALLEL_GROUPS):
            with T.Then(), T.serial(n) as row:
                self._round_row(row)
            with T.Else(), T.parallel(n) as row:
                self._round_row(row)

    def _round_row(self, row: Expr) -> None:
        whole, ragged = divmod(self.spec.in_features, GROUP)
        with T.serial(index(whole)) as group:
            self._round_group(row, group, GROUP)
        if ragged:
            self._round_group(row, index(whole), ragged)

    def _round_group(self, row: Expr, group: Expr, inputs: int) -> None:
        """Round the first `inputs` values of a group; the others are zero."""
        lanes = self.cut.lanes
        values = []
        for first in range(0, GROUP, lanes):
            k = group * GROUP + first
            values.append(let(load_padded(self.x, row, k, inputs - first, lanes), lanes))
        largest = let(_largest_magnitude(values, lanes), 1)
        tiny = largest <= tirx.const(SMALLEST_GROUP_MAXIMUM, "float32")
        one = tirx.const(1.0, "float32")
        inverse = tirx.const(127.0, "float32") / tirx.Select(tiny, one, largest)
        inverse = let(tirx.Select(tiny, tirx.const(0.0, "float32"), inverse), 1)
        T.buffer_store(self.scale, largest * tirx.const(1 / 127, "float32"), [row, group])
        total: Expr = splat(0, lanes, "int32")
        for i, value in enumerate(values):
            rounded = tirx.nearbyint(value * splat(inverse, lanes))
            integers = let(tirx.Cast(f"int32x{lanes}", rounded), lanes, "int32")
            total = total + integers
            words = lanes // QUAD
            quads = tirx.reinterpret(dtype_of("int32", words), tirx.Cast(f"int8x{lanes}", integers))
            store(self.quads, (row, group * QUADS + i * words), quads, words)
        total = tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.add", total)
        T.buffer_store(self.start, total * tirx.const(-self.offset, "int32"), [row, group])

    def accumulate(self, sums: list[Register], block: Expr, row: Expr, rows: int) -> None:
        vectors, instruction = self.cut.vectors, self.instruction
        dots = [instruction.register() for _ in range(rows * vectors)]
        with T.serial(index(self.cut.groups)) as group:
            if rows >= PREFETCH_ROWS:
                self._prefetch(block, group)
            starts = [self.start[row + r, group] for r in range(rows)]
            for r in range(rows):
                for v in range(vectors):
                    dots[r * vectors + v].set(instruction.first(starts[r]))
            self._emit_dots(dots, block, row, rows, group)
            for v in range(vectors):
                scale = self.weight_scale(block, group, v)
                for r in range(rows):
                    i = r * vectors + v
                    total = instruction.total(dots[i].value, starts[r])
                    self.add_scaled(sums[i], total, scale, self.scale[row + r, group])

    def _emit_dots(
        self, dots: list[Register], block: Expr, row: Expr, rows: int, group: Expr
    ) -> None:
        lanes, vectors, four_bits = self.cut.lanes, self.cut.vectors, self.spec.format.bits == 4
        width = QUAD * lanes
        for packed_quad in range(QUADS // 2 if four_bits else QUADS):
            stored = []
            for v in range(vectors):
                where = (block, group, index(packed_quad), index(v * width))
                stored.append(let(load(self.packed[0], where, width), width, "uint8"))
            for half in range(2 if four_bits else 1):
                quad = packed_quad + half * (QUADS // 2)
                codes = [
                    self.instruction.weights(self.codes(value, half, width)) for value in stored
                ]
                for r in range(rows):
                    x = splat(self.quads[row + r, group * QUADS + quad], lanes)
                    signed = let(tirx.reinterpret(f"int8x{width}", x), width, "int8")
                    for v in range(vectors):
                        dot = dots[r * vectors + v]
                        dot.set(self.instruction.add(dot.value, codes[v], signed))

    def _prefetch(self, block: Expr, group: Expr) -> None:
        """Ask for the weights of a later group; those of the next block follow a block's last."""
        weight = self.packed[0]
        quads, width = (int(extent) for extent in weight.shape[2:])
        ahead = group + max(1, self.prefetch_bytes // (quads * width))
        for quad in range(quads):
            for byte in range(0, width, CACHE_LINE_BYTES):
                prefetch(weight, (block, ahead, index(quad), index(byte)))

    def codes(self, stored: Expr, half: int, width: int) -> Expr:
        """The unsigned weights of one quad."""
        if self.spec.format.bits == 8:
            return stored
        # As words: x86 shifts no bytes, and what LLVM takes instead competes with the dot products.
        words = width // 4
        nibbles = tirx.reinterpret(f"uint32x{words}", stored)
        if half:
            nibbles = nibbles >> splat(4, words, "uint32")
        nibbles = nibbles & splat(0x0F0F0F0F, words, "uint32")
        return let(tirx.reinterpret(f"uint8x{width}", nibbles), width, "uint8")

    def weight_scale(self, block: Expr, group: Expr, v: int) -> Expr | None:
        """The scales of one vector of outputs in one group; none where a row has one scale."""
        if not self.spec.format.group_size:
            return None
        lanes = self.cut.lanes
        stored = load(self.packed[1], (block, group, index(v * lanes)), lanes)
        return let(tirx.Cast(f"float32x{lanes}", stored), lanes)

    def add_scaled(self, total: Register, dot: Expr, scale: Expr | None, x_scale: Expr) -> None:
        """Add a group's sums, times their scales, to the sums over K."""
        lanes = self.cut.lanes
        both = splat(x_scale, lanes)
        if scale is not None:
            both = both * scale
        total.set(fma(tirx.Cast(f"float32x{lanes}", dot), both, total.value, lanes))


def _largest_magnitude(values: list[Expr], lanes: int) -> Expr:
    """The largest |value| of all lanes; NaN if any is NaN.

    Without their signs, floats order as their bits do, and NaN beyond infinity. A float maximum
    could drop a NaN, whose group would then pass as finite numbers.
    """
    magnitude = splat(0x7FFFFFFF, lanes, "uint32")
    bits = [tirx.reinterpret(f"uint32x{lanes}", value) & magnitude for value in values]
    largest = functools.reduce(maximum, bits)
    scalar = tirx.call_llvm_pure_intrin("uint32", "llvm.vector.reduce.umax", largest)
    return tirx.reinterpret("float32", scalar)
