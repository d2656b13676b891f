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
from ingot.compile.kernels.tensor_core import clear, emit, pointer, zeros
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, ceil_div, index, otherwise_if

FOUR = 4  # inputs that a thread reads together
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


class Four:
    """Four inputs of a row that a thread has asked for, and the norm's weights of them."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.x = inputs, zeros(FOUR)
        self.weight = zeros(FOUR) if inputs.norm is not None else None

    def read(self, row: Expr, k: Expr, exists: Expr) -> None:
        """Begin to read x[row, k : k + 4]; k is a multiple of 4."""
        width, norm = int(self.inputs.x.shape[1]), self.inputs.norm
        clear(self.x, FOUR)
        if self.weight is not None:
            clear(self.weight, FOUR)
        if width % FOUR:
            for i in range(FOUR):
                with otherwise_if(tirx.And(exists, k + i < width)):
                    T.buffer_store(self.x, self.inputs.x[index(row), index(k + i)], [i])
                    if self.weight is not None and norm is not None:
                        T.buffer_store(self.weight, norm.weight[index(k + i)], [i])
            return
        with otherwise_if(exists):
            emit("load_inputs", pointer(self.x, 0), pointer(self.inputs.x, index(row), index(k)))
            if self.weight is not None and norm is not None:
                emit("load_inputs", pointer(self.weight, 0), pointer(norm.weight, index(k)))

    def values(self, row: Expr) -> list[Expr]:
        """Those of x as they are multiplied, zeros where they don't exist."""
        if self.weight is None:
            return [self.x[i] for i in range(FOUR)]
        assert self.inputs.scale is not None
        scale = self.inputs.scale(row)
        return [self.x[i] * scale * self.weight[i] for i in range(FOUR)]


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
