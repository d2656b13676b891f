"""Linears of the same input (q/k/v; gate/up) to one linear and slices of its columns.

One matmul reads the input once and has more columns to spread over the cores; the kernels that
follow read their columns in place. Only linears of one role whose weights are stored in the same
format merge.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax

from ingot.compile.column_slice import slice_columns
from ingot.compile.graph import Graph, Rewritten, apply_rule, is_op, shape_of
from ingot.compile.ops import attributes, call_op

FormatOf = Callable[[list[relax.Var], str], str]
"""The code of the format in which a matrix made of these variables is stored, by its role."""


def merge_linears(module: tvm.IRModule, format_of: FormatOf) -> Rewritten:
    def rule(graph: Graph, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
        return _merge(graph, var, value, format_of)

    return apply_rule(module, rule, weights_first=True)


def _merge(
    graph: Graph, var: relax.Var, value: relax.Expr, format_of: FormatOf
) -> relax.Expr | None:
    if not is_op(value, "ingot.linear"):
        return None
    group = _siblings(graph, var, value, format_of)
    if len(group) < 2:
        return None
    calls = [graph.substitute(call) for _, call in group]
    weight = graph.emit(relax.op.concat([call.args[1] for call in calls], axis=0))
    operands = [value.args[0], weight]
    if any(len(call.args) == 3 for call in calls):
        operands.append(graph.emit(relax.op.concat([_bias(call) for call in calls], axis=0)))
    merged = graph.emit(call_op("linear", operands, **attributes(value)))
    parts, begin = [], 0
    for call in calls:
        end = begin + int(shape_of(call.args[1])[0])
        parts.append(slice_columns(merged, begin, end))
        begin = end
    for (sibling, _), part in zip(group[1:], parts[1:], strict=True):
        graph.replace(sibling, graph.emit(part))
    return parts[0]


def _siblings(
    graph: Graph, var: relax.Var, value: relax.Call, format_of: FormatOf
) -> list[tuple[relax.Var, relax.Call]]:
    """This linear and the later ones of the same input, role and format, in order.

    A weight that depends on the tokens is not made yet where the merged linear stands.
    """

    def storage(call: relax.Call) -> tuple[str, str]:
        role = attributes(call).get("role", "linear")
        return role, format_of(graph.weights_in(graph.substitute(call.args[1])), role)

    found = [
        (user, call)
        for user, call in graph.uses(graph.old_value(var).args[0])
        if is_op(call, "ingot.linear")
        and graph.is_weight(graph.substitute(call.args[1]))
        and storage(call) == storage(value)
    ]
    return found if found and found[0][0].same_as(var) else []


def _bias(call: relax.Call) -> relax.Expr:
    if len(call.args) == 3:
        return call.args[2]
    return relax.const(np.zeros(int(shape_of(call.args[1])[0]), "float32"))
