"""Re-emit a Relax dataflow function binding by binding, letting a rule replace what it recognises.

A rule sees each call with its operands already rewritten, may look up what defines an operand and
who uses a result, and returns a replacement or `None`. What a replacement leaves unused is removed
afterwards, so a rule never has to delete anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax
from tvm_ffi import structural_equal

GRAPH = "trace"
"""The function that the graph stages rewrite: the step that gives every layer's output too."""

Rule = Callable[["Graph", relax.Var, relax.Expr], relax.Expr | None]


def bindings_of(function: relax.Function) -> Iterator[relax.VarBinding]:
    for block in function.body.blocks:
        yield from block.bindings


def operands_of(expr: relax.Expr) -> Iterator[relax.Expr]:
    """The direct operands of a binding's value, tuples flattened."""
    if isinstance(expr, relax.Call):
        for arg in expr.args:
            yield from operands_of(arg) if isinstance(arg, relax.Tuple) else (arg,)
    elif isinstance(expr, relax.Tuple):
        for field in expr.fields:
            yield from operands_of(field) if isinstance(field, relax.Tuple) else (field,)
    elif isinstance(expr, relax.TupleGetItem):
        yield expr.tuple_value
    elif isinstance(expr, relax.Var):
        yield expr


def is_op(expr: relax.Expr | None, name: str) -> bool:
    return isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op) and expr.op.name == name


class Graph:
    """A function while a new one is written from it, binding by binding.

    A rule gets operands of the new function. `uses` and `old_value` look at the function as it was,
    and `substitute` leads from its variables to what stands for them now.
    """

    def __init__(self, function: relax.Function, *, weights_first: bool = False) -> None:
        self.function = function
        self.bindings = list(bindings_of(function))
        self.builder = relax.BlockBuilder()
        self.parameters = list(function.params)
        num_inputs = (
            int(function.attrs["num_input"]) if "num_input" in (function.attrs or {}) else 0
        )
        self.weights = frozenset(self.parameters[num_inputs:])
        self.num_matched = 0
        self._weight_cache: dict[relax.Var, bool] = {}
        self._replaced: dict[relax.Var, relax.Expr] = {}
        self._definitions: dict[relax.Var, relax.Expr] = {}
        self._uses: dict[relax.Var, list[tuple[relax.Var, relax.Expr]]] = defaultdict(list)
        if weights_first:
            on_weights = _weight_bindings(self.bindings, self.weights)
            self.bindings.sort(key=lambda binding: binding.var not in on_weights)
        self._old_values = {binding.var: binding.value for binding in self.bindings}
        for binding in self.bindings:
            for operand in operands_of(binding.value):
                if isinstance(operand, relax.Var):
                    self._uses[operand].append((binding.var, binding.value))

    def emit(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var | tvm.ir.GenericConst):
            return expr
        var = self.builder.emit(expr)
        self._definitions[var] = self.builder.lookup_binding(var)
        return var

    def define(self, var: relax.Var, value: relax.Expr) -> None:
        """Remember what `var` is without emitting it into the new function."""
        self._definitions[var] = value

    def definition(self, expr: relax.Expr) -> relax.Expr | None:
        """The call that made `expr`, or `None` for a parameter."""
        return self._definitions.get(expr) if isinstance(expr, relax.Var) else expr

    def is_weight(self, expr: relax.Expr) -> bool:
        """Whether `expr` depends on weights and constants alone, so that it can be made once."""
        if isinstance(expr, relax.Var):
            if expr in self._weight_cache:
                return self._weight_cache[expr]
            known = self._definitions.get(expr)
            result = expr in self.weights if known is None else self.is_weight(known)
            self._weight_cache[expr] = result
            return result
        if isinstance(expr, tvm.ir.GenericConst | relax.ShapeExpr):
            return True
        return isinstance(expr, relax.Call | relax.Tuple | relax.TupleGetItem) and all(
            self.is_weight(operand) for operand in operands_of(expr)
        )

    def weights_in(self, expr: relax.Expr) -> list[relax.Var]:
        """The weights that `expr` is made of, in order of appearance."""
        if isinstance(expr, relax.Var):
            known = self._definitions.get(expr)
            if known is None:
                return [expr] if expr in self.weights else []
            return self.weights_in(known)
        return [weight for operand in operands_of(expr) for weight in self.weights_in(operand)]

    def match(self, expr: relax.Expr, name: str) -> relax.Call | None:
        """The call that made `expr` if it is one of operator `name`."""
        definition = self.definition(expr)
        return definition if is_op(definition, name) else None

    def operands(self, expr: relax.Expr, name: str) -> Iterator[tuple[relax.Expr, relax.Expr]]:
        """Both orders of the operands of a commutative operator, none if `expr` is not one."""
        call = self.match(expr, name)
        if call is not None:
            yield call.args[0], call.args[1]
            yield call.args[1], call.args[0]

    def uses(self, var: relax.Var) -> list[tuple[relax.Var, relax.Expr]]:
        """Who uses `var` in the function as it was: (result, value) pairs."""
        return self._uses[var]

    def old_value(self, var: relax.Var) -> relax.Expr:
        """What `var` is in the function as it was."""
        return self._old_values[var]

    def replace(self, var: relax.Var, expr: relax.Expr) -> None:
        """Let `expr` stand for `var` of the old function from here on, before it is reached."""
        self._replaced[var] = expr

    def substitute(self, expr: relax.Expr) -> relax.Expr:
        """`expr` with the old function's variables replaced by what stands for them now."""
        if isinstance(expr, relax.Var):
            return self._replaced.get(expr, expr)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.substitute(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            source = self.substitute(expr.tuple_value)
            known = self.definition(source)
            if isinstance(known, relax.Tuple):
                return known.fields[expr.index]
            return relax.TupleGetItem(source, expr.index)
        if isinstance(expr, relax.Call):
            args = [self.substitute(arg) for arg in expr.args]
            if all(new is old for new, old in zip(args, expr.args, strict=True)):
                return expr
            return relax.Call(expr.op, args, expr.attrs, expr.ty_args)
        return expr

    def run(
        self, rule: Rule, outputs: Callable[[relax.Expr], relax.Expr] = lambda result: result
    ) -> relax.Function:
        """Apply `rule` to every binding in order, then `outputs` to the result."""
        old = self.function
        with self.builder.function("rewritten", self.parameters):
            with self.builder.dataflow():
                for binding in self.bindings:
                    if binding.var in self._replaced:
                        continue
                    value = self.builder.normalize(self.substitute(binding.value))
                    new = rule(self, binding.var, value)
                    if new is None:
                        new = value
                    else:
                        self.num_matched += 1
                    self._replaced.setdefault(binding.var, self.emit(new))
                result = outputs(self.substitute(old.body.body))
                output = self.builder.emit_output(result)
            self.builder.emit_func_output(output)
        function = self.builder.get()["rewritten"]
        attrs = {k: v for k, v in (old.attrs or {}).items() if k != "global_symbol"}
        return function.with_attrs({**attrs, "global_symbol": GRAPH})


def _weight_bindings(
    bindings: list[relax.VarBinding], weights: frozenset[relax.Var]
) -> set[relax.Var]:
    """The variables that depend on weights alone (and on at least one)."""
    found = set(weights)
    for binding in bindings:
        variables = [o for o in operands_of(binding.value) if isinstance(o, relax.Var)]
        if variables and all(variable in found for variable in variables):
            found.add(binding.var)
    return found - weights


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A module after a rewrite, and how often the rewrite matched."""

    module: tvm.IRModule
    num_matched: int


def apply_rule(module: tvm.IRModule, rule: Rule, *, weights_first: bool = False) -> Rewritten:
    """Run `rule` over the graph function and drop what is no longer used.

    `weights_first` moves what depends on weights alone to the front, so that a rewrite that merges
    several weights finds them all defined.
    """
    graph = Graph(module[GRAPH], weights_first=weights_first)
    function = graph.run(rule)
    updated = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs)
    updated[GRAPH] = function
    updated = relax.transform.DeadCodeElimination([GRAPH])(updated)
    return Rewritten(updated, graph.num_matched)


def scalar_of(expr: relax.Expr) -> float | None:
    """The value of a constant with one element, else `None`."""
    if isinstance(expr, tvm.ir.GenericConst):
        value = expr.value.numpy()
        if value.size == 1:
            return float(value.reshape(()))
    return None


def shape_of(expr: relax.Expr) -> list[Any]:
    return list(expr.ty.shape.values)


def is_one(extent: object) -> bool:
    return isinstance(extent, tvm.tirx.IntImm | int) and int(extent) == 1


def same_shape(left: relax.Expr, right: relax.Expr) -> bool:
    return bool(structural_equal(left.ty.shape, right.ty.shape))


def same_extents(left: list[Any], right: list[Any]) -> bool:
    return bool(structural_equal(relax.ShapeExpr(left), relax.ShapeExpr(right)))
