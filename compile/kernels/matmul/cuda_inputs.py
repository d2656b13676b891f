"""The rows of x as the tensor-core kernels read them: as they are, or normed on the way.

An RMSNorm needs the mean square of its whole row. The linear that made the row has summed up the
squares of each `SQUARES_RUN` of its outputs; what is left to be added is a 64th of the row's bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm import tirx

from ingot.compile.kernels.cuda_ir import (
    BLOCK_THREADS,
    WARP,
    Local,
    add,
    for_elements,
    launch,
    let,
    reduce_warp,
    strided,
)
from ingot.compile.kernels.matmul.spec import SQUARES_RUN
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, ceil_div, index, otherwise_if

Write = Callable[[Expr, Expr], None]
"""(row, its scale) -> nothing."""


@dataclass(frozen=True, slots=True)
class Norm:
    """x / sqrt(mean(x^2) + eps) * weight, by the squares of runs."""

    squares: Buffer
    weight: Buffer
    eps: float


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where a row's value is, and what it is multiplied with."""

    x: Buffer
    n: Expr
    norm: Norm | None = None
    scale: Callable[[Expr], Expr] | None = None  # of a row, once it is known

    def write_scales(self, write: Write, thread: Expr, num_warps: int) -> None:
        """Let a block's warps write the scales of all rows, if there is a norm."""
        if self.norm is not None:
            with strided(tirx.floordiv(thread, WARP), self.n, num_warps) as row:
                self._write_scale(self.norm, write, row, tirx.floormod(thread, WARP))

    def with_scales(self) -> Inputs:
        """Emit a kernel that writes the scales of all rows, where there is a norm."""
        if self.norm is None:
            return self
        scales, warps = T.alloc_buffer((self.n,), "float32"), BLOCK_THREADS // WARP
        with launch(ceil_div(self.n, warps), BLOCK_THREADS) as (block, thread):
            row = let(block * warps + tirx.floordiv(thread, WARP), "int64")
            with otherwise_if(row < self.n):
                lane = tirx.floormod(thread, WARP)

                def write(row: Expr, scale: Expr) -> None:
                    T.buffer_store(scales, scale, [row])

                self._write_scale(self.norm, write, row, lane)
        return replace(self, scale=lambda row: scales[row])

    def _write_scale(self, norm: Norm, write: Write, row: Expr, lane: Expr) -> None:
        total = Local(0.0)
        with strided(lane, int(norm.squares.shape[1]), WARP) as i:
            total.set(total.value + norm.squares[row, i])
        mean = let(reduce_warp(total.value, add) / float(int(norm.weight.shape[0])))
        with otherwise_if(lane == 0):
            root = tirx.sqrt(mean + tirx.const(norm.eps, "float32"))
            write(row, let(tirx.const(1.0, "float32") / root))

    def value(self, row: Expr, k: Expr, exists: Expr) -> Expr:
        """x[row, k] as it is multiplied, zero where it does not exist."""
        found = self.x[row, k]
        if self.norm is not None:
            assert self.scale is not None
            found = found * self.scale(row) * self.norm.weight[k]
        return let(tirx.if_then_else(exists, found, tirx.const(0.0, "float32")))


def sum_squares(n: Expr, out: Buffer, squares: Buffer) -> None:
    """Emit the kernel that sums up the squares of each run of a row's outputs."""
    width, runs = int(out.shape[1]), int(squares.shape[1])

    def sum_run(i: Expr) -> None:
        row, run = let(tirx.floordiv(i, runs), "int64"), let(tirx.floormod(i, runs), "int64")
        total = Local(0.0)
        with T.serial(index(SQUARES_RUN)) as place:
            column = run * SQUARES_RUN + place
            with otherwise_if(column < width):
                value = let(out[row, column])
                total.set(total.value + value * value)
        T.buffer_store(squares, total.value, [row, run])

    for_elements(n * runs, sum_run)
