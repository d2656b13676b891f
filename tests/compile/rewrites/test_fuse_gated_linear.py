"""A linear whose two halves are a gate and what it gates becomes one operator."""

from __future__ import annotations

import pytest
from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.fuse_gated_linear import fuse_gated_linear
from tests.compile.graphs import TOKENS, Emit, check_rewrite, check_unchanged, trace

WIDTH = 6
X = {"x": (1, TOKENS, 4)}
WEIGHTS = {"weight": (2 * WIDTH, 4), "bias": (2 * WIDTH,)}


def gated(emit: Emit, gate_up: Var) -> Var:
    return emit(call_op("gated_activation", [gate_up], kind="silu"))


@pytest.mark.parametrize("names", [["weight"], ["weight", "bias"]])
def test_gate_and_up_of_one_linear(names: list[str]) -> None:
    def before(emit: Emit, x: Var, *weights: Var) -> Var:
        return gated(emit, emit(call_op("linear", [x, *weights])))

    def expected(emit: Emit, x: Var, *weights: Var) -> Var:
        return emit(call_op("gated_linear", [x, *weights], kind="silu"))

    weights = {name: WEIGHTS[name] for name in names}
    module = trace(before, X, weights)
    check_rewrite(module, fuse_gated_linear(module), trace(expected, X, weights))


def test_a_linear_with_another_use_stays() -> None:
    def before(emit: Emit, x: Var, weight: Var) -> Var:
        whole = emit(call_op("linear", [x, weight]))
        left = emit(relax.op.strided_slice(whole, [2], [0], [WIDTH], [1]))
        return emit(relax.op.add(gated(emit, whole), left))

    module = trace(before, X, {"weight": WEIGHTS["weight"]})
    check_unchanged(module, fuse_gated_linear(module))


def test_a_gate_of_another_matrix_stays() -> None:
    def before(emit: Emit, x: Var, weight: Var) -> Var:
        whole = emit(call_op("linear", [x, weight]))
        return emit(call_op("gated_activation", [whole, whole], kind="silu"))

    module = trace(before, X, {"weight": WEIGHTS["weight"]})
    check_unchanged(module, fuse_gated_linear(module))
