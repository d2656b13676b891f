"""Sums of the tensor-core kernels to outputs: scaled by groups, by rows, with bias and gate.

A lane of every kernel ends with sums of two features that are `GATE_RUN` apart, of the same rows:
the gate and the up of one output where there is a gate.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.activation.cuda import FUNCTIONS
from ingot.compile.kernels.cuda_ir import Local, add, let, reduce_warp
from ingot.compile.kernels.matmul.cuda_weights import Weights
from ingot.compile.kernels.matmul.spec import GATE_RUN, SQUARES_RUN
from ingot.compile.kernels.tensor_core import clear, multiply, pointer, words
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, otherwise_if


def add_product(
    weights: Weights,
    sums: Buffer,
    left: tuple[Buffer, Buffer],
    right: Buffer,
    scales: list[Expr],
    starts: list[Expr] | None = None,
) -> None:
    """sums += A B over one group; with `scales`, one for each of a lane's four sums, scaled. Then
    the group's sums may start with something else than zero."""
    if not scales:
        multiply(weights.dtype, pointer(sums, 0), *left, right)
        return
    part = words(4, "float32")
    clear(part, 4)
    for i, start in enumerate(starts or ()):
        T.buffer_store(part, start, [i])
    multiply(weights.dtype, pointer(part, 0), *left, right)
    for i, scale in enumerate(scales):
        T.buffer_store(sums, sums[i] + part[i] * scale, [i])


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Where the sums of one linear layer go."""

    weights: Weights
    n: Expr
    bias: Buffer | None
    out: Buffer
    residual: Buffer | None = None
    squares: Buffer | None = None

    def store(self, first: Expr, rows: list[tuple[Expr, tuple[Expr, Expr]]]) -> None:
        """Write the sums of the features `first` and `first + GATE_RUN`, for those rows and
        features that there are."""
        if self.weights.spec.gate:
            self._store_gated(first, rows)
            return
        if self.squares is not None:
            self._store_with_squares(self.squares, first, rows)
            return
        for half in range(2):
            feature = let(first + half * GATE_RUN, "int64")
            with otherwise_if(feature < self.weights.spec.out_features):
                for row, sums in rows:
                    with otherwise_if(row < self.n):
                        value = self._add(self._finish(sums[half], feature), row, feature)
                        T.buffer_store(self.out, value, [row, feature])

    def _store_with_squares(
        self, squares: Buffer, first: Expr, rows: list[tuple[Expr, tuple[Expr, Expr]]]
    ) -> None:
        """The same, and the squares of a warp's 16 features: lanes 4 apart have the same rows and
        features side by side."""
        for row, sums in rows:
            total = Local(0.0)
            for half in range(2):
                feature = let(first + half * GATE_RUN, "int64")
                exists = tirx.And(feature < self.weights.spec.out_features, row < self.n)
                with otherwise_if(exists):
                    value = let(self._add(self._finish(sums[half], feature), row, feature))
                    T.buffer_store(self.out, value, [row, feature])
                    total.set(total.value + value * value)
            square = reduce_warp(total.value, add, least_distance=4)
            is_first = tirx.floormod(first, SQUARES_RUN) == 0
            run = let(tirx.floordiv(first, SQUARES_RUN), "int64")
            with otherwise_if(tirx.And(is_first, tirx.And(row < self.n, run < squares.shape[1]))):
                T.buffer_store(squares, square, [row, run])

    def _add(self, value: Expr, row: Expr, feature: Expr) -> Expr:
        return value if self.residual is None else value + self.residual[row, feature]

    def _store_gated(self, first: Expr, rows: list[tuple[Expr, tuple[Expr, Expr]]]) -> None:
        """out = act(gate) * up; runs of gates and of ups take turns, and are whole."""
        activate = FUNCTIONS[self.weights.spec.gate]
        run = tirx.floordiv(first, 2 * GATE_RUN)
        column = let(run * GATE_RUN + tirx.floormod(first, GATE_RUN), "int64")
        with otherwise_if(first < self.weights.spec.out_features):
            for row, sums in rows:
                with otherwise_if(row < self.n):
                    gate = let(self._finish(sums[0], first))
                    up = self._finish(sums[1], first + GATE_RUN)
                    T.buffer_store(self.out, activate(gate) * up, [row, column])

    def _finish(self, value: Expr, feature: Expr) -> Expr:
        if self.weights.has_row_scale:
            value = value * self.weights.row_scale(feature)
        return value if self.bias is None else value + self.bias[feature]
