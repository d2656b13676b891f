"""Linears of one input become one linear whose columns the others were, where formats agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.merge_linears import merge_linears
from tests.compile.graphs import TOKENS, Emit, check_rewrite, check_unchanged, trace

X = {"x": (1, TOKENS, 6)}
QKV = {"q": (8, 6), "k": (4, 6), "v": (4, 6)}


def one_format(_weights: list[Var], _role: str) -> str:
    return "f32"


def linear(emit: Emit, *operands: relax.Expr, role: str = "linear") -> Var:
    return emit(call_op("linear", list(operands), role=role))


def columns(emit: Emit, x: Var, begin: int, end: int) -> Var:
    return emit(relax.op.strided_slice(x, [2], [begin], [end], [1]))


def test_three_projections() -> None:
    def before(emit: Emit, x: Var, q: Var, k: Var, v: Var) -> relax.Tuple:
        return relax.Tuple([linear(emit, x, weight) for weight in (q, k, v)])

    def expected(emit: Emit, x: Var, q: Var, k: Var, v: Var) -> relax.Tuple:
        merged = linear(emit, x, emit(relax.op.concat([q, k, v], axis=0)))
        second, third = columns(emit, merged, 8, 12), columns(emit, merged, 12, 16)
        return relax.Tuple([columns(emit, merged, 0, 8), second, third])

    module = trace(before, X, QKV)
    check_rewrite(module, merge_linears(module, one_format), trace(expected, X, QKV))


def test_one_without_bias_gets_zeros() -> None:
    def before(emit: Emit, x: Var, q: Var, k: Var, b: Var) -> relax.Tuple:
        return relax.Tuple([linear(emit, x, q, b), linear(emit, x, k)])

    def expected(emit: Emit, x: Var, q: Var, k: Var, b: Var) -> relax.Tuple:
        weight = emit(relax.op.concat([q, k], axis=0))
        zeros = relax.const(np.zeros(4, "float32"))
        merged = linear(emit, x, weight, emit(relax.op.concat([b, zeros], axis=0)))
        second = columns(emit, merged, 8, 12)
        return relax.Tuple([columns(emit, merged, 0, 8), second])

    weights = {"q": (8, 6), "k": (4, 6), "b": (8,)}
    module = trace(before, X, weights)
    check_rewrite(module, merge_linears(module, one_format), trace(expected, X, weights))


def test_weight_made_after_the_first_linear() -> None:
    """A transposed weight stands between the two; weights move to the front."""

    def before(emit: Emit, x: Var, q: Var, k: Var) -> relax.Tuple:
        first = linear(emit, x, q)
        return relax.Tuple([first, linear(emit, x, emit(relax.op.permute_dims(k, [1, 0])))])

    def expected(emit: Emit, x: Var, q: Var, k: Var) -> relax.Tuple:
        transposed = emit(relax.op.permute_dims(k, [1, 0]))
        merged = linear(emit, x, emit(relax.op.concat([q, transposed], axis=0)))
        second = columns(emit, merged, 8, 12)
        return relax.Tuple([columns(emit, merged, 0, 8), second])

    weights = {"q": (8, 6), "k": (6, 4)}
    module = trace(before, X, weights)
    check_rewrite(module, merge_linears(module, one_format), trace(expected, X, weights))


def test_only_equal_formats_merge() -> None:
    def before(emit: Emit, x: Var, q: Var, k: Var, v: Var) -> relax.Tuple:
        return relax.Tuple([linear(emit, x, weight) for weight in (q, k, v)])

    def expected(emit: Emit, x: Var, q: Var, k: Var, v: Var) -> relax.Tuple:
        merged = linear(emit, x, emit(relax.op.concat([q, v], axis=0)))
        third = columns(emit, merged, 8, 12)
        first = columns(emit, merged, 0, 8)
        return relax.Tuple([first, linear(emit, x, k), third])

    def format_of(weights: list[Var], _role: str) -> str:
        return "f16" if weights[0].name == "k" else "q4_s128"

    module = trace(before, X, QKV)
    check_rewrite(module, merge_linears(module, format_of), trace(expected, X, QKV))


def test_heads_merge_as_heads() -> None:
    """Their format is that of heads, and the merged linear is one of them."""
    asked = []

    def before(emit: Emit, x: Var, q: Var, k: Var, v: Var) -> relax.Tuple:
        roles = ("head", "linear", "head")
        return relax.Tuple(
            [linear(emit, x, w, role=role) for w, role in zip((q, k, v), roles, strict=True)]
        )

    def expected(emit: Emit, x: Var, q: Var, k: Var, v: Var) -> relax.Tuple:
        merged = linear(emit, x, emit(relax.op.concat([q, v], axis=0)), role="head")
        third = columns(emit, merged, 8, 12)
        first = columns(emit, merged, 0, 8)
        return relax.Tuple([first, linear(emit, x, k), third])

    def format_of(_weights: list[Var], role: str) -> str:
        asked.append(role)
        return "f32"

    module = trace(before, X, QKV)
    check_rewrite(module, merge_linears(module, format_of), trace(expected, X, QKV))
    assert set(asked) == {"head", "linear"}


def different_inputs() -> tvm.IRModule:
    def build(emit: Emit, x: Var, y: Var, q: Var, k: Var) -> relax.Tuple:
        return relax.Tuple([linear(emit, x, q), linear(emit, y, k)])

    return trace(build, {**X, "y": (1, TOKENS, 6)}, {"q": (8, 6), "k": (4, 6)})


def one_after_the_other() -> tvm.IRModule:
    def build(emit: Emit, x: Var, q: Var, k: Var) -> relax.Tuple:
        first = linear(emit, x, q)
        return relax.Tuple([first, linear(emit, first, k)])

    return trace(build, X, {"q": (6, 6), "k": (4, 6)})


def weights_made_of_tokens() -> tvm.IRModule:
    """A matrix that depends on the tokens isn't there yet when the first linear is emitted."""

    def build(emit: Emit, x: Var, y: Var, q: Var) -> relax.Tuple:
        first = linear(emit, x, q)
        return relax.Tuple([first, linear(emit, x, emit(relax.op.exp(y)))])

    return trace(build, {**X, "y": (4, 6)}, {"q": (8, 6)})


@pytest.mark.parametrize("module", [different_inputs, one_after_the_other, weights_made_of_tokens])
def test_does_not_apply(module: Callable[[], tvm.IRModule]) -> None:
    check_unchanged(module(), merge_linears(module(), one_format))
