"""A norm of a sum between two linears becomes a share of each, where nothing else needs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites import active_rewrites
from ingot.compile.rewrites.fuse_norm_linear import fuse_norm_linear
from tests.compile.graphs import TOKENS, Emit, check_rewrite, check_unchanged, trace

WIDTH, INSIDE = 24, 6
INPUTS = {"x": (1, TOKENS, 8), "residual": (1, TOKENS, WIDTH)}
WEIGHTS = {"before": (WIDTH, 8), "norm": (WIDTH,), "after": (2 * INSIDE, WIDTH)}
BIASES = {"bias_before": (WIDTH,), "bias_after": (2 * INSIDE,)}
NORM = {"kind": "rms", "eps": 1e-5}


def half(_weights: list[Var], _role: str) -> str:
    return "f16"


def parts(emit: Emit, both: Var) -> list[Var]:
    return [emit(relax.TupleGetItem(both, i)) for i in range(2)]


def block(
    kind: str = "", *, swapped: bool = False, norm: dict[str, object] | None = None
) -> Callable[..., relax.Tuple]:
    def before(
        emit: Emit, x: Var, residual: Var, first: Var, weight: Var, second: Var, *biases: Var
    ) -> relax.Tuple:
        linear = emit(call_op("linear", [x, first, *biases[:1]], role="linear"))
        terms = [residual, linear] if swapped else [linear, residual]
        total, normed = parts(
            emit, emit(call_op("residual_norm", [*terms, weight], **(norm or NORM)))
        )
        operands = [normed, second, *biases[1:]]
        if kind:
            return relax.Tuple([emit(call_op("gated_linear", operands, kind=kind)), total])
        return relax.Tuple([emit(call_op("linear", operands, role="linear")), total])

    return before


@pytest.mark.parametrize("kind", ["", "silu"])
@pytest.mark.parametrize("swapped", [False, True])
def test_both_linears_take_their_share(kind: str, swapped: bool) -> None:
    def expected(
        emit: Emit, x: Var, residual: Var, first: Var, weight: Var, second: Var
    ) -> relax.Tuple:
        both = emit(call_op("residual_linear", [x, first, residual], role="linear"))
        total, squares = parts(emit, both)
        more = {"kind": kind} if kind else {"role": "linear"}
        operands = [total, squares, weight, second]
        out = emit(call_op("norm_linear", operands, eps=NORM["eps"], **more))
        return relax.Tuple([out, total])

    module = trace(block(kind, swapped=swapped), INPUTS, WEIGHTS)
    after = trace(expected, INPUTS, WEIGHTS)
    check_rewrite(module, fuse_norm_linear(module, half), after, num_matched=2)


def test_biases_stay_where_they_were() -> None:
    module = trace(block(), INPUTS, {**WEIGHTS, **BIASES})

    def expected(
        emit: Emit, x: Var, residual: Var, first: Var, weight: Var, second: Var, *biases: Var
    ) -> relax.Tuple:
        operands = [x, first, biases[0], residual]
        total, squares = parts(emit, emit(call_op("residual_linear", operands, role="linear")))
        operands = [total, squares, weight, second, biases[1]]
        out = emit(call_op("norm_linear", operands, eps=NORM["eps"], role="linear"))
        return relax.Tuple([out, total])

    after = trace(expected, INPUTS, {**WEIGHTS, **BIASES})
    check_rewrite(module, fuse_norm_linear(module, half), after, num_matched=2)


def test_what_keeps_a_norm() -> None:
    """float32 weights, another kind of norm, and a normed sum that something else needs."""
    module = trace(block(), INPUTS, WEIGHTS)
    check_unchanged(module, fuse_norm_linear(module, lambda _weights, _role: "f32"))
    module = trace(block(norm={"kind": "layer", "eps": 1e-5}), INPUTS, WEIGHTS)
    check_unchanged(module, fuse_norm_linear(module, half))

    def shared(
        emit: Emit, x: Var, residual: Var, first: Var, weight: Var, second: Var
    ) -> relax.Tuple:
        linear = emit(call_op("linear", [x, first], role="linear"))
        both = emit(call_op("residual_norm", [linear, residual, weight], **NORM))
        total, normed = parts(emit, both)
        out = emit(call_op("linear", [normed, second], role="linear"))
        return relax.Tuple([out, normed, total])

    module = trace(shared, INPUTS, WEIGHTS)
    check_unchanged(module, fuse_norm_linear(module, half))


def test_only_gpus_have_such_linears() -> None:
    names = {kind: {r.name for r in active_rewrites((), kind)} for kind in ("cpu", "cuda")}
    assert names["cuda"] - names["cpu"] == {"fuse_norm_linear"}
    assert "fuse_norm_linear" not in {
        r.name for r in active_rewrites(("fuse_norm_linear",), "cuda")
    }
