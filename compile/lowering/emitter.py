"""Kernel specs, operands and weight expressions to calls in the function that lowering writes.

Every kernel works on matrices `[n, width]`, a row for each token: `flat` and `view` make them of
the operators' `[1, n, ...]`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tvm import relax
from tvm_ffi import StructuralKey

from ingot.compile.column_slice import column_slice
from ingot.compile.graph import Graph, is_one, shape_of
from ingot.compile.kernels import build_kernel
from ingot.compile.storage import FormatRules, WeightTable
from ingot.compile.weight_expressions import is_evaluable
from ingot.targets import Target

OPAQUE = 8
"""TVM's `kOpaque`: a function that no other is fused with."""


@dataclass(frozen=True, slots=True)
class View:
    """Columns of a matrix `[n, row_width]`, from `column_offset` on, read where they are."""

    matrix: relax.Expr
    row_width: int
    column_offset: int


class Emitter:
    """Writes into the function that replaces `graph`'s. Builds each kernel once."""

    def __init__(
        self, graph: Graph, weights: WeightTable, target: Target, formats: FormatRules
    ) -> None:
        self.graph = graph
        self.weights = weights
        self.target = target
        self.formats = formats
        self._kernels: dict[Any, relax.GlobalVar] = {}
        self.calls: Counter[Any] = Counter()
        """How often each spec's kernel is called."""
        self._made: dict[StructuralKey, relax.Var] = {}

    # --- kernels -------------------------------------------------------------------------------

    def kernel(self, op: str, spec: Any) -> relax.GlobalVar:
        """The kernel of `compile/kernels/<op>/` for this spec and target, to be called once."""
        self.calls[spec] += 1
        if spec not in self._kernels:
            function = build_kernel(op, spec, self.target)
            name = str(function.attrs["global_symbol"])
            function = function.without_attr("global_symbol").with_attr("op_pattern", OPAQUE)
            self._kernels[spec] = self.graph.builder.add_func(function, name)
        return self._kernels[spec]

    def call(self, op: str, spec: Any, operands: list[relax.Expr], shape: list[Any]) -> relax.Expr:
        """Call a kernel that writes one float32 tensor of this shape."""
        out = relax.TensorType(shape, "float32")
        return self.graph.emit(relax.call_tir(self.kernel(op, spec), operands, out))

    # --- activations ---------------------------------------------------------------------------

    def flat(self, expr: relax.Expr) -> relax.Expr:
        """`[1, n, ...]` as `[n, width]`; there may be more leading ones, or none."""
        shape = shape_of(expr)
        first = next(axis for axis, extent in enumerate(shape) if not is_one(extent))
        tokens, *inner = shape[first:]
        width = 1
        for extent in inner:
            width *= int(extent)
        return self.graph.emit(relax.op.reshape(expr, [tokens, width]))

    def view(self, expr: relax.Expr) -> View:
        """The columns that `expr` is, read in place where it is a slice of a wider matrix."""
        inner = expr
        while (reshape := self.graph.match(inner, "relax.reshape")) is not None:
            inner = reshape.args[0]
        columns = column_slice(self.graph, inner)
        if columns is not None and len(shape_of(columns.matrix)) == 3:
            matrix = self.flat(columns.matrix)
            return View(matrix, int(shape_of(matrix)[1]), columns.begin)
        matrix = self.flat(expr)
        return View(matrix, int(shape_of(matrix)[1]), 0)

    # --- weights -------------------------------------------------------------------------------

    def is_stored(self, expr: relax.Expr) -> bool:
        """Whether `expr` is a variable that the artifact can store: made of weights alone."""
        return (
            isinstance(expr, relax.Var)
            and is_evaluable(self.graph, expr)
            and bool(self.graph.weights_in(expr))
        )

    def plain(self, expr: relax.Expr) -> relax.Expr:
        """`expr` as an operand: stored as float32 where it is a weight."""
        return self.weights.plain(expr) if self.is_stored(expr) else expr

    def define_weight(self, expr: relax.Expr) -> relax.Var:
        """A variable for what is made of a weight when the weights are written.

        The same for the same expression: a weight that two calls read is stored once.
        """
        value = self.graph.builder.normalize(expr)
        key = StructuralKey(value)
        if key not in self._made:
            self._made[key] = relax.Var("weight", value.ty)
            self.graph.define(self._made[key], value)
        return self._made[key]
