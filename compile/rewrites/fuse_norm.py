"""RMSNorm and LayerNorm, written out in the models' code, to `ingot.norm`; then with the residual.

`x * rsqrt(mean(x^2) + eps)` becomes a norm without weight (a LayerNorm if `x` is `y - mean(y)`),
and a product of that with a weight a norm with weight, so every order in which models write it
matches. Models that scale by `1 + w` need nothing of their own: the sum is an expression of
weights. `fuse_residual_norm` takes the sum before a norm into it, so that the hidden state is
written once and read once.
"""

from __future__ import annotations

import tvm
from tvm import relax

from ingot.compile.graph import (
    Graph,
    Rewritten,
    apply_rule,
    is_op,
    same_extents,
    same_shape,
    scalar_of,
    shape_of,
)
from ingot.compile.ops import attributes, call_op


def fuse_norm(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _fuse_norm)


def fuse_residual_norm(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _fuse_residual_norm, weights_first=True)


def _fuse_norm(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if is_op(value, "relax.multiply"):
        bare = _rms_norm(graph, value)
        return bare if bare is not None else _scaled_norm(graph, value)
    if is_op(value, "relax.nn.rms_norm"):
        x, weight = value.args
        return call_op("norm", [x, weight], kind="rms", eps=float(value.attrs.epsilon))
    if is_op(value, "relax.nn.layer_norm") and [int(a) for a in value.attrs.axes] == [-1]:
        x, *affine = value.args
        return call_op("norm", [x, *affine], kind="layer", eps=float(value.attrs.epsilon))
    return None


def _rms_norm(graph: Graph, value: relax.Call) -> relax.Expr | None:
    for x, scale in (value.args, reversed(value.args)):
        eps = _inverse_rms(graph, scale, x)
        if eps is None:
            continue
        centered = _centered(graph, x)
        if centered is not None:
            return call_op("norm", [centered], kind="layer", eps=eps)
        return call_op("norm", [x], kind="rms", eps=eps)
    return None


def _centered(graph: Graph, x: relax.Expr) -> relax.Expr | None:
    """`y` if `x` is `y - mean(y)`: the RMSNorm of that is the LayerNorm of `y`."""
    difference = graph.match(x, "relax.subtract")
    if difference is None:
        return None
    y, mean = difference.args
    mean_call = graph.match(mean, "relax.mean")
    if mean_call is None or not mean_call.args[0].same_as(y) or not _over_last_axis(mean_call):
        return None
    return y


def _inverse_rms(graph: Graph, scale: relax.Expr, x: relax.Expr) -> float | None:
    """The epsilon if `scale` is `rsqrt(mean(x^2, -1) + eps)` in one of its spellings."""
    root = graph.match(scale, "relax.rsqrt")
    if root is None and (power := graph.match(scale, "relax.power")) is not None:
        root = power if scalar_of(power.args[1]) == -0.5 else None
    if root is None:
        return None
    for mean, eps in graph.operands(root.args[0], "relax.add"):
        mean_call = graph.match(mean, "relax.mean")
        value = scalar_of(eps)
        if mean_call is None or value is None or not _over_last_axis(mean_call):
            continue
        if _is_square_of(graph, mean_call.args[0], x):
            return value
    return None


def _over_last_axis(mean: relax.Call) -> bool:
    rank = len(shape_of(mean.args[0]))
    return bool(mean.attrs.keepdims) and [int(a) % rank for a in mean.attrs.axis] == [rank - 1]


def _is_square_of(graph: Graph, square: relax.Expr, x: relax.Expr) -> bool:
    power = graph.match(square, "relax.power")
    if power is not None:
        return bool(power.args[0].same_as(x)) and scalar_of(power.args[1]) == 2.0
    product = graph.match(square, "relax.multiply")
    if product is not None:
        return all(factor.same_as(x) for factor in product.args)
    whole = graph.match(square, "relax.square")
    return whole is not None and bool(whole.args[0].same_as(x))


def _scaled_norm(graph: Graph, value: relax.Call) -> relax.Expr | None:
    for x, weight in (value.args, reversed(value.args)):
        norm = graph.match(x, "ingot.norm")
        if norm is None or len(norm.args) != 1 or not graph.is_weight(weight):
            continue
        width = shape_of(norm.args[0])[-1]
        if same_extents(shape_of(weight), [width]):
            return call_op("norm", [norm.args[0], weight], **attributes(norm))
    return None


def _fuse_residual_norm(graph: Graph, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if not is_op(value, "relax.add") or not same_shape(value.args[0], value.args[1]):
        return None
    if len(shape_of(value)) != 3:  # the kernel norms whole rows of the sum, not the heads in them
        return None
    if any(graph.is_weight(operand) for operand in value.args):
        return None
    norms = [
        (user, call)
        for user, call in graph.uses(var)
        if is_op(call, "ingot.norm") and call.args[0].same_as(var)
    ]
    if not norms:
        return None
    user, norm = norms[0]
    affine = [graph.substitute(arg) for arg in norm.args[1:]]
    if not all(graph.is_weight(arg) for arg in affine):
        return None
    both = graph.emit(call_op("residual_norm", [*value.args, *affine], **attributes(norm)))
    graph.replace(user, graph.emit(relax.TupleGetItem(both, 1)))
    return relax.TupleGetItem(both, 0)
