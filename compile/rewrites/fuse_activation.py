"""Activations and their products with a gate to `ingot.activation` and `ingot.gated_activation`.

SiLU written as `x * sigmoid(x)`, the exact, the tanh and the sigmoid form of GELU, and squared ReLU
are recognised. When gate and up are the two halves of one matmul, the gated activation reads them
in place, without a copy of either.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tvm
from tvm import relax

from ingot.compile.column_slice import column_slice
from ingot.compile.graph import (
    Graph,
    Rewritten,
    apply_rule,
    is_op,
    same_shape,
    scalar_of,
    shape_of,
)
from ingot.compile.ops import attributes, call_op

_NAMED = {
    "relax.nn.silu": "silu",
    "relax.nn.gelu": "gelu",
    "relax.nn.gelu_tanh": "gelu_tanh",
    "relax.nn.relu": "relu",
}


def fuse_activation(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _fuse_activation)


def fuse_gated_activation(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _fuse_gated_activation)


def _fuse_activation(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return None
    if value.op.name in _NAMED:
        return call_op("activation", [value.args[0]], kind=_NAMED[value.op.name])
    for recognise in (_silu, _quick_gelu, _gelu, _gelu_tanh, _relu2):
        x = recognise(graph, value)
        if x is not None:
            return call_op("activation", [x], kind=recognise.__name__.lstrip("_"))
    return None


def _silu(graph: Graph, value: relax.Call) -> relax.Expr | None:
    for x, gate in graph.operands(value, "relax.multiply"):
        sigmoid = graph.match(gate, "relax.sigmoid")
        if sigmoid is not None and sigmoid.args[0].same_as(x):
            return x
    return None


def _quick_gelu(graph: Graph, value: relax.Call) -> relax.Expr | None:
    """`x sigmoid(1.702 x)`"""
    for x, gate in graph.operands(value, "relax.multiply"):
        sigmoid = graph.match(gate, "relax.sigmoid")
        if sigmoid is None:
            continue
        for scaled, scale in graph.operands(sigmoid.args[0], "relax.multiply"):
            if _close(scalar_of(scale), 1.702) and scaled.same_as(x):
                return x
    return None


def _relu2(graph: Graph, value: relax.Call) -> relax.Expr | None:
    base = None
    if is_op(value, "relax.power") and scalar_of(value.args[1]) == 2.0:
        base = value.args[0]
    elif is_op(value, "relax.square"):
        base = value.args[0]
    elif is_op(value, "relax.multiply") and value.args[0].same_as(value.args[1]):
        base = value.args[0]
    inner = graph.match(base, "ingot.activation") if base is not None else None
    if inner is not None and attributes(inner)["kind"] == "relu":
        return inner.args[0]
    return None


def _gelu(graph: Graph, value: relax.Call) -> relax.Expr | None:
    """`0.5 x (1 + erf(x / sqrt(2)))` in any order of its factors."""
    return _half_of_one_plus(graph, value, _erf_argument)


def _gelu_tanh(graph: Graph, value: relax.Call) -> relax.Expr | None:
    """`0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` in any order of its factors."""
    return _half_of_one_plus(graph, value, _tanh_argument)


def _factors(graph: Graph, expr: relax.Expr, depth: int = 3) -> list[relax.Expr]:
    """The factors of a product, nested products flattened."""
    product = graph.match(expr, "relax.multiply")
    if product is None or depth == 0:
        return [expr]
    return [f for arg in product.args for f in _factors(graph, arg, depth - 1)]


def _close(value: float | None, expected: float) -> bool:
    return value is not None and math.isclose(value, expected, rel_tol=1e-5)


def _half_of_one_plus(
    graph: Graph, value: relax.Call, argument: Callable[[Graph, relax.Expr], relax.Expr | None]
) -> relax.Expr | None:
    if not is_op(value, "relax.multiply"):
        return None
    factors = _factors(graph, value)
    halves = [f for f in factors if _close(scalar_of(f), 0.5)]
    rest = [f for f in factors if scalar_of(f) is None]
    if len(halves) != 1 or len(rest) != 2 or len(factors) != 3:
        return None
    for x, one_plus in (rest, reversed(rest)):
        for inner, one in graph.operands(one_plus, "relax.add"):
            if _close(scalar_of(one), 1.0) and (found := argument(graph, inner)) is not None:
                return found if found.same_as(x) else None
    return None


def _erf_argument(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    erf = graph.match(expr, "relax.erf")
    if erf is None:
        return None
    for x, scale in graph.operands(erf.args[0], "relax.multiply"):
        if _close(scalar_of(scale), math.sqrt(0.5)):
            return x
    quotient = graph.match(erf.args[0], "relax.divide")
    if quotient is not None and _close(scalar_of(quotient.args[1]), math.sqrt(2.0)):
        return quotient.args[0]
    return None


def _tanh_argument(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    tanh = graph.match(expr, "relax.tanh")
    if tanh is None:
        return None
    factors = _factors(graph, tanh.args[0])
    if len(factors) == 3:  # sqrt(2/pi) * x * (1 + 0.044715 * x * x)
        return _factored_tanh_argument(graph, factors)
    for inner, scale in graph.operands(tanh.args[0], "relax.multiply"):
        if not _close(scalar_of(scale), math.sqrt(2.0 / math.pi)):
            continue
        for x, cubic in graph.operands(inner, "relax.add"):
            if _is_scaled_cube(graph, cubic, x):
                return x
    return None


def _factored_tanh_argument(graph: Graph, factors: list[relax.Expr]) -> relax.Expr | None:
    scales = [f for f in factors if _close(scalar_of(f), math.sqrt(2.0 / math.pi))]
    rest = [f for f in factors if scalar_of(f) is None]
    if len(scales) != 1 or len(rest) != 2:
        return None
    for x, one_plus in (rest, reversed(rest)):
        for square, one in graph.operands(one_plus, "relax.add"):
            parts = _factors(graph, square)
            variables = [p for p in parts if p.same_as(x)]
            constants = [p for p in parts if _close(scalar_of(p), 0.044715)]
            if _close(scalar_of(one), 1.0) and len(variables) == 2 and len(constants) == 1:
                return x
    return None


def _is_scaled_cube(graph: Graph, expr: relax.Expr, x: relax.Expr) -> bool:
    for cube, scale in graph.operands(expr, "relax.multiply"):
        if not _close(scalar_of(scale), 0.044715):
            continue
        power = graph.match(cube, "relax.power")
        if power is not None:
            return power.args[0].same_as(x) and scalar_of(power.args[1]) == 3.0
        parts = _factors(graph, cube)
        return len(parts) == 3 and all(part.same_as(x) for part in parts)
    return False


def _fuse_gated_activation(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    for activated, up in graph.operands(value, "relax.multiply"):
        activation = graph.match(activated, "ingot.activation")
        if activation is None or not same_shape(activated, up) or graph.is_weight(up):
            continue
        gate = activation.args[0]
        kind = attributes(activation)["kind"]
        whole = _halves_of(graph, gate, up)
        operands = [whole] if whole is not None else [gate, up]
        return call_op("gated_activation", operands, kind=kind)
    return None


def _halves_of(graph: Graph, first: relax.Expr, second: relax.Expr) -> relax.Expr | None:
    """The matrix of which `first` and `second` are the left and right halves of the columns."""
    left, right = (column_slice(graph, x) for x in (first, second))
    if left is None or right is None or not left.matrix.same_as(right.matrix):
        return None
    width = int(shape_of(left.matrix)[-1])
    bounds = (left.begin, left.end, right.begin, right.end)
    return left.matrix if bounds == (0, width // 2, width // 2, width) else None
