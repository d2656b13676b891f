"""The gather of the rows that get logits moves up through the last layer, as far as rows are apart.

Of a prompt's tokens all but the last need the last layer for their keys and values alone. What
follows its attention works on single rows, so it is computed for the gathered ones. A layer's
output that `trace` returns is computed for all rows as well; `step` drops it.
"""

from __future__ import annotations

import tvm
from tvm import relax

from ingot.compile.graph import Graph, Rewritten, apply_rule, is_op, same_extents
from ingot.compile.ops import call_op

_LINEARS = ("ingot.linear", "ingot.gated_linear")
_ROW_WISE = frozenset(
    [
        *_LINEARS,
        *(f"ingot.{name}" for name in ("activation", "gated_activation", "norm", "residual_norm")),
        *(f"relax.{name}" for name in ("add", "clip", "divide", "multiply", "subtract", "tanh")),
    ]
)


def gather_early(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _gather_early)


def _gather_early(graph: Graph, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if not is_op(value, "ingot.gather_rows"):
        return None
    x = graph.old_value(var).args[0]
    on_rows = _needed_for_rows(graph, var, x)
    if not any(is_op(graph.old_value(v), name) for v in on_rows for name in _LINEARS):
        return None
    gathered: dict[relax.Var, relax.Expr] = {}

    def rows_of(operand: relax.Expr) -> relax.Expr:
        if not _has_tokens(operand, x):
            return graph.substitute(operand)
        if operand not in gathered:
            call = call_op("gather_rows", [graph.substitute(operand), value.args[1]])
            gathered[operand] = graph.emit(call)
        return gathered[operand]

    for moved in on_rows:
        old = graph.old_value(moved)
        if isinstance(old, relax.TupleGetItem):
            if old.tuple_value in gathered:
                both = gathered[old.tuple_value]
                gathered[moved] = graph.emit(relax.TupleGetItem(both, old.index))
        else:
            operands = [rows_of(operand) for operand in old.args]
            gathered[moved] = graph.emit(relax.Call(old.op, operands, old.attrs, old.ty_args))
    return rows_of(x)


def _needed_for_rows(graph: Graph, gather: relax.Var, x: relax.Var) -> list[relax.Var]:
    """What is computed row by row and used for the gathered rows alone, in order."""
    needed = {gather}
    found = []
    for binding in reversed(graph.bindings):
        users = [
            user
            for user, value in graph.uses(binding.var)
            if not isinstance(value, relax.Tuple)  # what `trace` returns
        ]
        if all(user in needed for user in users) and _is_row_wise(binding.value, x):
            needed.add(binding.var)
            if users:
                found.append(binding.var)
    return found[::-1]


def _is_row_wise(value: relax.Expr, x: relax.Var) -> bool:
    if isinstance(value, relax.TupleGetItem):
        return _has_tokens(value, x)
    is_call = isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op)
    if not is_call or value.op.name not in _ROW_WISE:
        return False
    return any(_has_tokens(operand, x) for operand in value.args)


def _has_tokens(expr: relax.Expr, x: relax.Var) -> bool:
    """Whether `expr` is `[1, n, width]` with the tokens of `x`."""
    if not isinstance(expr.ty, relax.TensorType) or expr.ty.ndim != 3:
        return False
    return same_extents(list(expr.ty.shape.values)[:2], list(x.ty.shape.values)[:2])
