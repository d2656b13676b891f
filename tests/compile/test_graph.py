"""Re-emitting a function: lookups, weights, replacement, and what stays when nothing matches."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax
from tvm.relax import Var

from ingot.compile.graph import (
    GRAPH,
    Graph,
    apply_rule,
    operands_of,
    same_extents,
    same_shape,
    scalar_of,
    shape_of,
)
from tests.compile.graphs import TOKENS, Emit, check_unchanged, operators, trace

op = relax.op
X = {"x": (1, TOKENS, 6)}
W = {"w": (6,), "v": (6,)}


def scaled(emit: Emit, x: Var, w: Var, v: Var) -> Var:
    """`x * (1 + w) + x`, with `v` unused."""
    return emit(op.add(emit(op.multiply(x, emit(op.add(w, relax.const(1.0))))), x))


def graph_of(module: tvm.IRModule) -> Graph:
    """A graph after its function was re-emitted, so that lookups see it."""
    graph = Graph(module[GRAPH])
    graph.run(lambda graph, var, value: None)
    return graph


def test_rule_that_never_matches_changes_nothing() -> None:
    module = trace(scaled, X, W)
    rewritten = apply_rule(module, lambda graph, var, value: None)
    check_unchanged(module, rewritten)
    assert rewritten.module[GRAPH].attrs["global_symbol"] == GRAPH


def test_parameters_stay_though_unused() -> None:
    module = trace(scaled, X, W)
    rewritten = apply_rule(module, lambda graph, var, value: None).module
    assert [p.name for p in rewritten[GRAPH].params] == ["x", "w", "v"]


def test_replaced_operator_and_what_only_it_used() -> None:
    def rule(graph: Graph, var: Var, value: relax.Expr) -> relax.Expr | None:
        call = graph.match(value, "relax.multiply")
        return op.exp(call.args[0]) if call is not None else None

    rewritten = apply_rule(trace(scaled, X, W), rule)
    assert operators(rewritten.module) == ["relax.exp", "relax.add"]
    assert rewritten.num_matched == 1


def test_rule_sees_operands_as_rewritten() -> None:
    """exp(exp(x)) with exp(x) -> x twice: the second match sees what the first made."""

    def build(emit: Emit, x: Var) -> Var:
        return emit(op.negative(emit(op.exp(emit(op.exp(x))))))

    def rule(graph: Graph, var: Var, value: relax.Expr) -> relax.Expr | None:
        call = graph.match(value, "relax.exp")
        return call.args[0] if call is not None else None

    rewritten = apply_rule(trace(build, X), rule)
    assert operators(rewritten.module) == ["relax.negative"]
    assert rewritten.num_matched == 2


def test_later_binding_replaced_before_it_is_reached() -> None:
    def build(emit: Emit, x: Var) -> relax.Tuple:
        return relax.Tuple([emit(op.exp(x)), emit(op.tanh(x))])

    def rule(graph: Graph, var: Var, value: relax.Expr) -> relax.Expr | None:
        if graph.match(value, "relax.exp") is None:
            return None
        later = next(user for user, call in graph.uses(value.args[0]) if user != var)
        graph.replace(later, graph.emit(op.sin(value.args[0])))
        return op.cos(value.args[0])

    rewritten = apply_rule(trace(build, X), rule)
    assert operators(rewritten.module) == ["relax.sin", "relax.cos"]


def test_weights() -> None:
    graph = graph_of(trace(scaled, X, W))
    x, w, v = graph.parameters
    by_name = {call.op.name: var for var, call in graph._definitions.items()}
    assert graph.weights == {w, v}
    assert graph.is_weight(w) and not graph.is_weight(x)
    assert not graph.is_weight(by_name["relax.multiply"])
    product = graph.match(by_name["relax.multiply"], "relax.multiply")
    assert product is not None
    assert graph.is_weight(product.args[1])
    assert graph.weights_in(product.args[1]) == [w]
    assert graph.weights_in(by_name["relax.add"]) == [w]
    assert graph.is_weight(relax.const(1.0))


def test_without_num_input_every_parameter_is_a_weight() -> None:
    module = trace(scaled, {}, {**X, **W})
    assert len(Graph(module[GRAPH]).weights) == 3


def test_operands_of_a_commutative_operator() -> None:
    graph = graph_of(trace(scaled, X, W))
    product = next(var for var, call in graph._definitions.items() if call.op.name.endswith("ply"))
    x, weight = graph.definition(product).args
    assert list(graph.operands(product, "relax.multiply")) == [(x, weight), (weight, x)]
    assert list(graph.operands(product, "relax.add")) == []
    assert list(graph.operands(x, "relax.multiply")) == []


def test_weights_first_keeps_the_order_within_both_parts() -> None:
    def build(emit: Emit, x: Var, w: Var, v: Var) -> Var:
        a = emit(op.exp(x))
        b = emit(op.negative(w))
        c = emit(op.tanh(a))
        d = emit(op.square(emit(op.add(b, v))))
        return emit(op.add(c, d))

    module = trace(build, X, W)
    rewritten = apply_rule(module, lambda graph, var, value: None, weights_first=True)
    assert operators(rewritten.module) == [
        f"relax.{name}" for name in ("negative", "add", "square", "exp", "tanh", "add")
    ]


def test_field_of_a_known_tuple_is_the_field() -> None:
    def build(emit: Emit, x: Var) -> Var:
        both = emit(relax.Tuple([emit(op.exp(x)), emit(op.tanh(x))]))
        return emit(op.negative(emit(relax.TupleGetItem(both, 1))))

    rewritten = apply_rule(trace(build, X), lambda graph, var, value: None)
    assert operators(rewritten.module) == ["relax.tanh", "relax.negative"]


def test_operands_of_tuples_are_flattened() -> None:
    x, y = (relax.Var(name, relax.TensorType([2], "float32")) for name in "xy")
    nested = relax.Tuple([x, relax.Tuple([y, x])])
    assert list(operands_of(nested)) == [x, y, x]
    assert list(operands_of(op.concat([x, y], axis=0))) == [x, y]
    assert list(operands_of(relax.TupleGetItem(nested, 0))) == [nested]
    assert list(operands_of(x)) == [x]


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        (relax.const(0.5), 0.5),
        (relax.const(3, "int64"), 3.0),
        (relax.const([[2.0]], "float32"), 2.0),
        (relax.const([1.0, 1.0], "float32"), None),
    ],
)
def test_scalar_of(constant: relax.Expr, value: float | None) -> None:
    assert scalar_of(constant) == value


def test_shapes() -> None:
    x = relax.Var("x", relax.TensorType([1, TOKENS, 6], "float32"))
    same = relax.Var("y", relax.TensorType([1, TOKENS, 6], "float32"))
    other = relax.Var("z", relax.TensorType([1, 6], "float32"))
    assert same_shape(x, same) and not same_shape(x, other)
    assert [int(extent) for extent in shape_of(other)] == [1, 6]
    assert same_extents([TOKENS, 6], shape_of(x)[1:])
    assert not same_extents([TOKENS], [6])
