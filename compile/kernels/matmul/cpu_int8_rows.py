"""Turn float32 rows into int8 with one scale for each run of inputs, as the dot products read them.

Operation for operation what `reference.round_activations` does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from tvm import tirx

from ingot.compile.kernels.matmul.cpu_rows import load_padded
from ingot.compile.kernels.matmul.reference import SMALLEST_RUN_MAXIMUM
from ingot.compile.kernels.matmul.spec import GROUP, QUAD, Layout
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    T,
    dtype_of,
    index,
    let,
    maximum,
    splat,
    store,
)

QUADS = GROUP // QUAD
# From this many groups on, rounding them is worth starting the other threads: a group takes some
# 12 ns on a 3 GHz core, threads that are awake take a few microseconds to start.
PARALLEL_GROUPS = 512

StoreTotals = Callable[[Expr, Expr, list[Expr]], None]
"""`(row, run, totals)`: the last are vectors of int32 whose lanes add up to each group's sum."""


class Int8Rows:
    """quads [n, groups * 8] as int32, scale [n, runs] float32."""

    def __init__(self, x: Buffer, cut: Layout, n: Expr, more_rows: int) -> None:
        """Allocate; `more_rows` beyond n may be read, and hold anything."""
        self.x, self.cut, self.n = x, cut, n
        runs = cut.groups // cut.groups_per_run
        self.quads = T.alloc_buffer((n + more_rows, cut.groups * QUADS), "int32")
        self.scale = T.alloc_buffer((n + more_rows, runs), "float32")

    def emit(self, store_totals: StoreTotals) -> None:
        with T.If(self.n * self.cut.groups < PARALLEL_GROUPS):
            with T.Then(), T.serial(self.n) as row:
                self._round_row(row, store_totals)
            with T.Else(), T.parallel(self.n) as row:
                self._round_row(row, store_totals)

    def quad(self, row: Expr, group: Expr, quad: int) -> Expr:
        """One quad in every lane."""
        lanes = self.cut.lanes
        x = splat(self.quads[row, group * QUADS + quad], lanes)
        return let(tirx.reinterpret(f"int8x{QUAD * lanes}", x), QUAD * lanes, "int8")

    def _round_row(self, row: Expr, store_totals: StoreTotals) -> None:
        inputs_of_run = GROUP * self.cut.groups_per_run
        whole, ragged = divmod(int(self.x.shape[1]), inputs_of_run)
        with T.serial(index(whole)) as run:
            self._round_run(row, run, inputs_of_run, store_totals)
        if ragged:
            self._round_run(row, index(whole), ragged, store_totals)

    def _round_run(self, row: Expr, run: Expr, inputs: int, store_totals: StoreTotals) -> None:
        """Round the first `inputs` values of a run; the others are zero."""
        lanes, groups = self.cut.lanes, self.cut.groups_per_run
        first = run * (groups * GROUP)
        values = {
            k: load_padded(self.x, row, first + k, inputs - k, lanes)
            for k in range(0, groups * GROUP, lanes)
        }
        largest = let(_largest_magnitude(list(values.values()), lanes), 1)
        tiny = largest <= tirx.const(SMALLEST_RUN_MAXIMUM, "float32")
        one = tirx.const(1.0, "float32")
        inverse = tirx.const(127.0, "float32") / tirx.Select(tiny, one, largest)
        inverse = let(tirx.Select(tiny, tirx.const(0.0, "float32"), inverse), 1)
        T.buffer_store(self.scale, largest * tirx.const(1 / 127, "float32"), [row, run])
        totals: list[Expr] = [splat(0, lanes, "int32")] * groups
        words = lanes // QUAD
        for k, value in values.items():
            rounded = tirx.nearbyint(value * splat(inverse, lanes))
            integers = let(tirx.Cast(f"int32x{lanes}", rounded), lanes, "int32")
            totals[k // GROUP] = totals[k // GROUP] + integers
            quads = tirx.reinterpret(dtype_of("int32", words), tirx.Cast(f"int8x{lanes}", integers))
            store(self.quads, (row, run * (groups * QUADS) + k // QUAD), quads, words)
        store_totals(row, run, totals)


def sum_lanes(total: Expr) -> Expr:
    """The sum of a vector of int32."""
    return tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.add", total)


def _largest_magnitude(values: list[Expr], lanes: int) -> Expr:
    """The largest |value| of all lanes; NaN if any is NaN.

    Without their signs, floats order as their bits do, and NaN beyond infinity. A float maximum
    could drop a NaN, whose run would then pass as finite numbers.
    """
    magnitude = splat(0x7FFFFFFF, lanes, "uint32")
    bits = [tirx.reinterpret(f"uint32x{lanes}", value) & magnitude for value in values]
    largest = functools.reduce(maximum, bits)
    scalar = tirx.call_llvm_pure_intrin("uint32", "llvm.vector.reduce.umax", largest)
    return tirx.reinterpret("float32", scalar)
