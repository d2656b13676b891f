"""An RMSNorm of a sum, between two linears, to a share of each: nothing is launched for it.

`sum, normed = residual_norm(linear(x), residual)` and `linear(normed)` become `sum, squares =
residual_linear(x, residual)`, which adds the residual to what it holds in registers and sums up the
squares of runs of outputs, and `norm_linear(sum, squares)`, which adds those up and norms its
inputs on their way. For GPUs, where a launch costs as much as the norm; runs after `gather_early`,
which moves linears and norms apart.
"""

from __future__ import annotations

import tvm
from tvm import relax

from ingot.compile.graph import Graph, Rewritten, apply_rule, is_op
from ingot.compile.ops import attributes, call_op
from ingot.compile.rewrites.merge_linears import FormatOf

_LINEARS = ("ingot.linear", "ingot.gated_linear")


def fuse_norm_linear(module: tvm.IRModule, format_of: FormatOf) -> Rewritten:
    def fuse(graph: Graph, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
        if is_op(value, "ingot.residual_norm"):
            return _split_norm(graph, var, value, format_of)
        if any(is_op(value, name) for name in _LINEARS):
            return _norm_inputs(graph, value)
        return None

    return apply_rule(module, fuse, weights_first=True)


def _split_norm(
    graph: Graph, var: relax.Var, value: relax.Call, format_of: FormatOf
) -> relax.Expr | None:
    attrs = attributes(value)
    if attrs["kind"] != "rms" or len(value.args) != 3 or not _feeds_a_linear(graph, var, format_of):
        return None
    old = graph.old_value(var)
    for operand, residual, old_operand in (
        (value.args[0], value.args[1], old.args[0]),
        (value.args[1], value.args[0], old.args[1]),
    ):
        linear = graph.match(operand, "ingot.linear")
        if linear is None or len(graph.uses(old_operand)) > 1:
            continue
        if not _is_multiplied_in_tiles(graph, linear, format_of):
            continue
        both = graph.emit(
            call_op("residual_linear", [*linear.args, residual], **attributes(linear))
        )
        total, squares = (graph.emit(relax.TupleGetItem(both, i)) for i in range(2))
        # Stands for the normed sum until the linear that takes it is reached.
        operands = [total, squares, value.args[2]]
        normed = graph.emit(call_op("norm_by_squares", operands, eps=attrs["eps"]))
        return relax.Tuple([total, normed])
    return None


def _feeds_a_linear(graph: Graph, var: relax.Var, format_of: FormatOf) -> bool:
    """Whether the normed sum has one use, as the input of a linear that can norm it."""
    normed = [v for v, part in graph.uses(var) if part.index == 1]
    users = [user for part in normed for _, user in graph.uses(part)]
    if len(users) != 1 or not any(is_op(users[0], name) for name in _LINEARS):
        return False
    return users[0].args[0].same_as(normed[0]) and _is_multiplied_in_tiles(
        graph, users[0], format_of
    )


def _is_multiplied_in_tiles(graph: Graph, linear: relax.Call, format_of: FormatOf) -> bool:
    """By the kernels that have a share of norms: those of tensor cores, not of float32 weights."""
    role = attributes(linear).get("role", "linear")
    weights = graph.weights_in(graph.substitute(linear.args[1]))
    return bool(weights) and format_of(weights, role) != "f32"


def _norm_inputs(graph: Graph, value: relax.Call) -> relax.Expr | None:
    normed = graph.match(value.args[0], "ingot.norm_by_squares")
    if normed is None:
        return None
    return call_op(
        "norm_linear",
        [*normed.args, *value.args[1:]],
        **attributes(normed),
        **attributes(value),
    )
