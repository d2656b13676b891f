"""Slices of columns as ranges: bounds as Python reads them, and what is no such range."""

from __future__ import annotations

import pytest
from tvm import relax
from tvm.relax import Var

from ingot.compile.column_slice import clamp, column_slice, slice_bounds, slice_columns
from ingot.compile.graph import GRAPH, Graph
from tests.compile.graphs import TOKENS, Emit, trace

END = 2**63 - 1
X = {"x": (1, TOKENS, 10)}


def find(axes: list[int], begin: list[int], end: list[int], step: list[int]) -> object:
    """What a slice of `x[1, n, 10]` is found to be: (begin, end), or None."""

    def build(emit: Emit, x: Var) -> Var:
        return emit(relax.op.strided_slice(x, axes, begin, end, step))

    graph = Graph(trace(build, X)[GRAPH])
    graph.run(lambda graph, var, value: None)
    (sliced,) = graph._definitions
    found = column_slice(graph, sliced)
    if found is None:
        return None
    assert found.matrix.same_as(graph.parameters[0])
    return found.begin, found.end


@pytest.mark.parametrize(
    ("begin", "end", "found"),
    [
        (0, 4, (0, 4)),
        (4, END, (4, 10)),
        (-3, END, (7, 10)),
        (2, -1, (2, 9)),
        (0, 99, (0, 10)),
    ],
)
@pytest.mark.parametrize("axis", [2, -1])
def test_columns(axis: int, begin: int, end: int, found: tuple[int, int]) -> None:
    assert find([axis], [begin], [end], [1]) == found


@pytest.mark.parametrize(
    ("axes", "begin", "end", "step"),
    [
        ([2], [0], [10], [2]),
        ([1], [0], [4], [1]),
        ([1, 2], [0, 0], [4, 4], [1, 1]),
    ],
)
def test_no_columns(axes: list[int], begin: list[int], end: list[int], step: list[int]) -> None:
    assert find(axes, begin, end, step) is None


def test_what_is_no_slice() -> None:
    graph = Graph(trace(lambda emit, x: emit(relax.op.exp(x)), X)[GRAPH])
    graph.run(lambda graph, var, value: None)
    assert column_slice(graph, graph.parameters[0]) is None
    assert all(column_slice(graph, var) is None for var in graph._definitions)


def test_bounds_keep_the_step() -> None:
    x = relax.Var("x", relax.TensorType([1, TOKENS, 10], "float32"))
    assert slice_bounds(relax.op.strided_slice(x, [2], [1], [END], [2])) == (1, END, 2)


def test_symbolic_bound() -> None:
    x = relax.Var("x", relax.TensorType([1, TOKENS, 10], "float32"))
    assert slice_bounds(relax.op.strided_slice(x, [2], [0], [TOKENS], [1])) is None


def test_slice_columns() -> None:
    x = relax.Var("x", relax.TensorType([1, TOKENS, 10], "float32"))
    assert slice_bounds(slice_columns(x, 3, 7)) == (3, 7, 1)


@pytest.mark.parametrize(("index", "clamped"), [(3, 3), (-1, 9), (-99, 0), (99, 10), (10, 10)])
def test_clamp(index: int, clamped: int) -> None:
    assert clamp(index, 10) == clamped
