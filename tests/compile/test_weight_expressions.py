"""Every operator that weights may be made by, against NumPy; all else is left to the graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax
from tvm.relax import Var

from ingot.compile.graph import GRAPH, Graph
from ingot.compile.weight_expressions import _EVALUATE, evaluate, is_evaluable
from tests.compile.graphs import TOKENS, Emit, trace

op = relax.op
X = {"x": (1, TOKENS, 6)}
A, B = (np.random.default_rng(seed).standard_normal((4, 6), np.float32) for seed in (1, 2))
Build = Callable[[Emit, Var, Var], Var]
Numpy = Callable[[np.ndarray, np.ndarray], np.ndarray]

CASES: dict[str, tuple[Build, Numpy]] = {
    "concat": (
        lambda emit, a, b: emit(op.concat([a, b], axis=0)),
        lambda a, b: np.concatenate([a, b]),
    ),
    "concat columns": (
        lambda emit, a, b: emit(op.concat([a, b, a], axis=-1)),
        lambda a, b: np.concatenate([a, b, a], axis=1),
    ),
    "permute_dims": (lambda emit, a, b: emit(op.permute_dims(a, [1, 0])), lambda a, b: a.T),
    "permute_dims reversed": (lambda emit, a, b: emit(op.permute_dims(a)), lambda a, b: a.T),
    "reshape": (
        lambda emit, a, b: emit(op.reshape(a, [2, 12])),
        lambda a, b: a.reshape(2, 12),
    ),
    "strided_slice": (
        lambda emit, a, b: emit(op.strided_slice(a, [1], [1], [2**63 - 1], [2])),
        lambda a, b: a[:, 1::2],
    ),
    "strided_slice from the end": (
        lambda emit, a, b: emit(op.strided_slice(a, [0, 1], [-2, 0], [4, -1])),
        lambda a, b: a[-2:, :-1],
    ),
    "astype": (
        lambda emit, a, b: emit(op.astype(emit(op.astype(a, "float16")), "float32")),
        lambda a, b: a.astype(np.float16).astype(np.float32),
    ),
    "add": (lambda emit, a, b: emit(op.add(a, relax.const(1.0))), lambda a, b: a + 1),
    "subtract": (lambda emit, a, b: emit(op.subtract(a, b)), lambda a, b: a - b),
    "multiply": (lambda emit, a, b: emit(op.multiply(a, b)), lambda a, b: a * b),
    "divide": (lambda emit, a, b: emit(op.divide(a, relax.const(8.0))), lambda a, b: a / 8),
    "negative": (lambda emit, a, b: emit(op.negative(a)), lambda a, b: -a),
    "exp": (lambda emit, a, b: emit(op.exp(a)), lambda a, b: np.exp(a)),
    "nested": (
        lambda emit, a, b: emit(
            op.concat([emit(op.permute_dims(a, [1, 0])), emit(op.reshape(b, [6, 4]))], axis=0)
        ),
        lambda a, b: np.concatenate([a.T, b.reshape(6, 4)]),
    ),
}


def graph_and_result(build: Callable[..., Var], inputs: dict[str, object]) -> tuple[Graph, Var]:
    module = trace(build, inputs, {"a": (4, 6), "b": (4, 6)})
    graph = Graph(module[GRAPH])
    graph.run(lambda graph, var, value: None)
    return graph, list(graph._definitions)[-1]


@pytest.mark.parametrize("case", CASES)
def test_against_numpy(case: str) -> None:
    build, numpy = CASES[case]
    graph, result = graph_and_result(build, {})
    assert is_evaluable(graph, result)
    value = evaluate(graph, result, {"a": A, "b": B}.__getitem__)
    np.testing.assert_array_equal(value, numpy(A, B))
    assert value.dtype == np.float32


def test_every_operator_has_a_case() -> None:
    tested = {f"relax.{case.split()[0]}" for case in CASES}
    assert set(_EVALUATE) <= tested


def test_weight_itself() -> None:
    graph, _ = graph_and_result(lambda emit, a, b: emit(op.add(a, b)), {})
    assert is_evaluable(graph, graph.parameters[0])
    np.testing.assert_array_equal(evaluate(graph, graph.parameters[0], lambda name: A), A)


def test_each_weight_is_read_by_its_own_name() -> None:
    graph, result = graph_and_result(CASES["subtract"][0], {})
    names: list[str] = []

    def read(name: str) -> np.ndarray:
        names.append(name)
        return A

    evaluate(graph, result, read)
    assert names == ["a", "b"]


def test_operator_that_is_not_known() -> None:
    graph, result = graph_and_result(lambda emit, a, b: emit(op.sigmoid(a)), {})
    assert not is_evaluable(graph, result)


def test_expression_of_tokens() -> None:
    graph, result = graph_and_result(lambda emit, x, a, b: emit(op.add(x, x)), X)
    assert not is_evaluable(graph, graph.parameters[0])
    assert not is_evaluable(graph, result)
