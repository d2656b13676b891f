"""SwiGLU and GeGLU: `ingot.linear` of gate and up, then their product, to `ingot.gated_linear`.

The matmul applies the activation to what it still holds in registers, so the matrix of twice the
width is neither written nor read again. The linear must have no other use.
"""

from __future__ import annotations

import tvm
from tvm import relax

from ingot.compile.graph import Graph, Rewritten, apply_rule, is_op
from ingot.compile.ops import attributes, call_op


def fuse_gated_linear(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _fuse)


def _fuse(graph: Graph, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if not is_op(value, "ingot.gated_activation") or len(value.args) != 1:
        return None
    linear = graph.match(value.args[0], "ingot.linear")
    if linear is None or len(graph.uses(graph.old_value(var).args[0])) > 1:
        return None
    return call_op("gated_linear", linear.args, kind=attributes(value)["kind"])
