"""`matmul` with a weight becomes a linear whose weight is `[out, in]`, and takes in its bias."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.make_linears import make_linears
from tests.compile.graphs import TOKENS, Emit, check_rewrite, check_unchanged, trace

INPUTS = {"x": (1, TOKENS, 6)}
CONV1D = {"w": (6, 10), "b": (10,)}  # a Conv1D's weight is [in, out]


def test_conv1d_with_bias() -> None:
    def before(emit: Emit, x: Var, w: Var, b: Var) -> Var:
        return emit(relax.op.add(emit(relax.op.matmul(x, w)), b))

    def expected(emit: Emit, x: Var, w: Var, b: Var) -> Var:
        transposed = emit(relax.op.permute_dims(w, [1, 0]))
        return emit(call_op("linear", [x, transposed, b]))

    module = trace(before, INPUTS, CONV1D)
    check_rewrite(module, make_linears(module), trace(expected, INPUTS, CONV1D), num_matched=2)


def test_bias_on_the_left() -> None:
    def before(emit: Emit, x: Var, w: Var, b: Var) -> Var:
        return emit(relax.op.add(b, emit(call_op("linear", [x, w]))))

    def expected(emit: Emit, x: Var, w: Var, b: Var) -> Var:
        return emit(call_op("linear", [x, w, b]))

    weights = {"w": (10, 6), "b": (10,)}
    module = trace(before, INPUTS, weights)
    check_rewrite(module, make_linears(module), trace(expected, INPUTS, weights))


def product_of_activations() -> tvm.IRModule:
    def build(emit: Emit, x: Var, y: Var) -> Var:
        return emit(relax.op.matmul(x, y))

    return trace(build, {**INPUTS, "y": (6, 10)})


def residual_sum() -> tvm.IRModule:
    def build(emit: Emit, x: Var, w: Var) -> Var:
        return emit(relax.op.add(emit(call_op("linear", [x, w])), x))

    return trace(build, INPUTS, {"w": (6, 6)})


def second_bias() -> tvm.IRModule:
    def build(emit: Emit, x: Var, w: Var, b: Var, c: Var) -> Var:
        return emit(relax.op.add(emit(call_op("linear", [x, w, b])), c))

    return trace(build, INPUTS, {"w": (10, 6), "b": (10,), "c": (10,)})


def test_does_not_apply() -> None:
    for module in (product_of_activations(), residual_sum(), second_bias()):
        check_unchanged(module, make_linears(module))
