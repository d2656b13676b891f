"""`matmul` with a weight, as Conv1D layers of GPT-2 write it, to `ingot.linear`.

A linear's weight is `[out, in]`; the transposition becomes part of how the weight is stored. A bias
added to a linear without one is taken in.
"""

from __future__ import annotations

import tvm
from tvm import relax

from ingot.compile.graph import Graph, Rewritten, apply_rule, is_op, shape_of
from ingot.compile.ops import attributes, call_op


def make_linears(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _make_linear)


def _make_linear(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if is_op(value, "relax.matmul"):
        x, weight = value.args
        if len(shape_of(weight)) == 2 and graph.is_weight(weight) and not graph.is_weight(x):
            transposed = graph.emit(relax.op.permute_dims(weight, [1, 0]))
            return call_op("linear", [x, transposed])
        return None
    if is_op(value, "relax.add"):
        for x, bias in (value.args, reversed(value.args)):
            linear = graph.match(x, "ingot.linear")
            if (
                linear is not None
                and len(linear.args) == 2
                and len(shape_of(bias)) == 1
                and graph.is_weight(bias)
            ):
                return call_op("linear", [*linear.args, bias], **attributes(linear))
    return None
