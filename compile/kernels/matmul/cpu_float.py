"""Turn one tile of float32 rows and packed weights of any format into sums over K.

For each step of K the weights of the block are widened in registers to exact float32 values and
multiplied with every row of the tile, so widening costs `1 / rows` of the work. Sums run over k in
ascending order, one fused multiply-add each.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.matmul.element import group_scale
from ingot.compile.kernels.matmul.spec import GROUP, Layout, LinearSpec
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    fma,
    index,
    let,
    load,
    splat,
)
from ingot.targets.target import Target

# Registers that a tile needs beside its sums, in units of the block's vectors: the widened
# weights, then what the format keeps alive (scales, the other half of a pair).
EXTRA_VECTORS = {"f32": 1, "f16": 1, "bf16": 2, "q8": 1, "q6": 1, "q8_g32": 2, "q4_s128": 4}
# One for the broadcast activation, one for whatever the register allocator needs.
SPARE_REGISTERS = 2
# Arm has no operands in memory: more activations are on their way.
ARM_SPARE_REGISTERS = 5


def spare_registers(target: Target) -> int:
    """How many vector registers a tile needs beside its sums and its weights."""
    return ARM_SPARE_REGISTERS if target.architecture == "aarch64" else SPARE_REGISTERS


class FloatTiles:
    """Emits the sums of a tile whose activations stay float32."""

    def __init__(
        self, spec: LinearSpec, target: Target, cut: Layout, x: Buffer, packed: list[Buffer]
    ) -> None:
        self.spec, self.cut, self.x, self.packed = spec, cut, x, packed
        self.code = spec.format.code
        kept = spare_registers(target) + EXTRA_VECTORS[self.code] * cut.vectors
        free = target.vector_registers - kept
        self.rows = free // cut.vectors
        self.row_bytes = 4 * spec.in_features
        # Inputs whose weights one load brings.
        self.step = 2 if self.code in ("bf16", "q4_s128") else 1

    def prepare(self, n: Expr) -> None:
        """Nothing: the rows are read where they are."""

    def accumulate(self, sums: list[Register], block: Expr, row: Expr, rows: int) -> None:
        inputs = self.spec.in_features
        if not self.spec.format.group_size:
            self._emit_inputs(sums, block, row, rows, None, index(0), inputs)
            return
        with T.serial(index(inputs // GROUP)) as group:
            self._emit_inputs(sums, block, row, rows, group, group * GROUP, GROUP)
        if inputs % GROUP:
            group = index(inputs // GROUP)
            self._emit_inputs(sums, block, row, rows, group, group * GROUP, inputs % GROUP)

    def _emit_inputs(
        self,
        sums: list[Register],
        block: Expr,
        row: Expr,
        rows: int,
        group: Expr | None,
        first: Expr,
        inputs: int,
    ) -> None:
        """Add `inputs` inputs from `first` on, all of one group if there are groups."""
        lanes, vectors = self.cut.lanes, self.cut.vectors
        scales = []
        if group is not None:
            for v in range(vectors):
                scales.append(let(self._group_scales(block, group, v), lanes))

        def emit_step(step: Expr, inputs_of_step: int) -> None:
            where = (block, step) if group is None else (block, group, step)
            weights = [self._weights(where, v, scales) for v in range(vectors)]
            for half in range(inputs_of_step):
                k = first + step * self.step + half
                widened = [let(weights[v][half], lanes) for v in range(vectors)]
                for r in range(rows):
                    x = splat(self.x[row + r, k], lanes)
                    for v in range(vectors):
                        total = sums[r * vectors + v]
                        total.set(fma(x, widened[v], total.value, lanes))

        if inputs >= self.step:
            with T.serial(index(inputs // self.step)) as step:
                emit_step(step, self.step)
        if inputs % self.step:
            emit_step(index(inputs // self.step), inputs % self.step)

    def _group_scales(self, block: Expr, group: Expr, v: int) -> Expr:
        lanes = self.cut.lanes
        first = index(v * lanes)
        if not self.spec.format.superblock_size:
            stored = load(self.packed[1], (block, group, first), lanes)
            return tirx.Cast(f"float32x{lanes}", stored)
        run = tirx.floordiv(group, self.cut.groups_per_run)
        number = tirx.floormod(group, self.cut.groups_per_run)
        return group_scale(load(self.packed[1], (block, run, first), lanes), number, lanes)

    def _weights(self, where: tuple[Expr, ...], v: int, scales: list[Expr]) -> list[Expr]:
        """The float32 weights of vector `v` for each input of one step."""
        lanes, weight = self.cut.lanes, self.packed[0]
        wide = f"float32x{lanes}"
        if self.code == "bf16":
            # A pair is one uint32: the even input in the low half, the odd one already in place.
            both = load(weight, (*where, index(2 * v * lanes)), 2 * lanes)
            pair = let(tirx.reinterpret(f"uint32x{lanes}", both), lanes, "uint32")
            high = splat(0xFFFF0000, lanes, "uint32")
            even = pair << splat(16, lanes, "uint32")
            return [tirx.reinterpret(wide, even), tirx.reinterpret(wide, pair & high)]
        stored = load(weight, (*where, index(v * lanes)), lanes)
        if self.code == "q4_s128":
            codes = let(tirx.Cast(f"int32x{lanes}", stored), lanes, "int32")
            # (code - 8) * scale; every term is exact in float32.
            offset = let(scales[v] * splat(-8.0, lanes), lanes)
            low = tirx.Cast(wide, codes & splat(15, lanes, "int32"))
            high = tirx.Cast(wide, codes >> splat(4, lanes, "int32"))
            return [fma(low, scales[v], offset, lanes), fma(high, scales[v], offset, lanes)]
        value = stored if self.code == "f32" else tirx.Cast(wide, stored)
        return [value * scales[v]] if scales else [value]
