"""Norms in every spelling become one operator, and take in the residual sum before them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tvm
from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.fuse_norm import fuse_norm, fuse_residual_norm
from tests.compile.graphs import TOKENS, Emit, check_rewrite, check_unchanged, operators, trace

WIDTH = 6
EPS = 2.0**-17  # as a float32 constant and as a float64 attribute the same number
X = {"x": (1, TOKENS, WIDTH)}
W = {"w": (WIDTH,)}
Square = Callable[[Emit, Var], Var]

SQUARES: dict[str, Square] = {
    "power": lambda emit, x: emit(relax.op.power(x, relax.const(2.0))),
    "product": lambda emit, x: emit(relax.op.multiply(x, x)),
    "square": lambda emit, x: emit(relax.op.square(x)),
}


def rms(emit: Emit, x: Var, square: Square = SQUARES["power"], axis: int = -1) -> Var:
    mean = emit(relax.op.mean(square(emit, x), [axis], keepdims=True))
    root = emit(relax.op.rsqrt(emit(relax.op.add(mean, relax.const(EPS)))))
    return emit(relax.op.multiply(x, root))


def norm(emit: Emit, *operands: Var, kind: str = "rms", eps: float = EPS) -> Var:
    return emit(call_op("norm", operands, kind=kind, eps=eps))


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("weight_first", [False, True])
def test_rms_norm(square: str, weight_first: bool) -> None:
    def before(emit: Emit, x: Var, w: Var) -> Var:
        normed = rms(emit, x, SQUARES[square])
        return emit(relax.op.multiply(*((w, normed) if weight_first else (normed, w))))

    def expected(emit: Emit, x: Var, w: Var) -> Var:
        return norm(emit, x, w)

    module = trace(before, X, W)
    check_rewrite(module, fuse_norm(module), trace(expected, X, W), num_matched=2)


def test_rms_norm_by_power() -> None:
    def before(emit: Emit, x: Var) -> Var:
        mean = emit(relax.op.mean(SQUARES["power"](emit, x), [-1], keepdims=True))
        shifted = emit(relax.op.add(relax.const(EPS), mean))
        root = emit(relax.op.power(shifted, relax.const(-0.5)))
        return emit(relax.op.multiply(root, x))

    module = trace(before, X)
    check_rewrite(module, fuse_norm(module), trace(norm, X))


def test_one_plus_weight() -> None:
    """Gemma's weights are stored less one; the sum is an expression of weights."""

    def before(emit: Emit, x: Var, w: Var) -> Var:
        normed = rms(emit, x)
        return emit(relax.op.multiply(normed, emit(relax.op.add(w, relax.const(1.0)))))

    def expected(emit: Emit, x: Var, w: Var) -> Var:
        return norm(emit, x, emit(relax.op.add(w, relax.const(1.0))))

    module = trace(before, X, W)
    check_rewrite(module, fuse_norm(module), trace(expected, X, W), num_matched=2)


def test_norm_of_heads() -> None:
    """Query and key norms work on `[1, n, heads, head_dim]` with one weight for all heads."""

    def before(emit: Emit, x: Var, w: Var) -> Var:
        return emit(relax.op.multiply(rms(emit, x), w))

    def expected(emit: Emit, x: Var, w: Var) -> Var:
        return norm(emit, x, w)

    inputs = {"x": (1, TOKENS, 3, WIDTH)}
    module = trace(before, inputs, W)
    check_rewrite(module, fuse_norm(module), trace(expected, inputs, W), num_matched=2)


def test_layer_norm() -> None:
    def before(emit: Emit, x: Var, w: Var, b: Var) -> Var:
        return emit(relax.op.nn.layer_norm(x, w, b, axes=[-1], epsilon=EPS))

    def expected(emit: Emit, x: Var, w: Var, b: Var) -> Var:
        return norm(emit, x, w, b, kind="layer")

    weights = {**W, "b": (WIDTH,)}
    module = trace(before, X, weights)
    check_rewrite(module, fuse_norm(module), trace(expected, X, weights))


def test_layer_norm_written_out() -> None:
    """Cohere writes a LayerNorm without bias as an RMSNorm of what is left of the mean."""

    def before(emit: Emit, x: Var, w: Var) -> Var:
        mean = emit(relax.op.mean(x, [-1], keepdims=True))
        normed = rms(emit, emit(relax.op.subtract(x, mean)))
        return emit(relax.op.multiply(w, normed))

    def expected(emit: Emit, x: Var, w: Var) -> Var:
        return norm(emit, x, w, kind="layer")

    module = trace(before, X, W)
    check_rewrite(module, fuse_norm(module), trace(expected, X, W), num_matched=2)


def unrelated_square() -> tvm.IRModule:
    def build(emit: Emit, x: Var, y: Var) -> Var:
        mean = emit(relax.op.mean(emit(relax.op.multiply(y, y)), [-1], keepdims=True))
        root = emit(relax.op.rsqrt(emit(relax.op.add(mean, relax.const(EPS)))))
        return emit(relax.op.multiply(x, root))

    return trace(build, {**X, "y": (1, TOKENS, WIDTH)})


def norm_over_tokens() -> tvm.IRModule:
    return trace(lambda emit, x: rms(emit, x, axis=1), X)


def scaled_by_activations() -> tvm.IRModule:
    def build(emit: Emit, x: Var, y: Var) -> Var:
        return emit(relax.op.multiply(norm(emit, x), y))

    return trace(build, {**X, "y": (WIDTH,)})


def scaled_twice() -> tvm.IRModule:
    def build(emit: Emit, x: Var, w: Var, v: Var) -> Var:
        return emit(relax.op.multiply(norm(emit, x, w), v))

    return trace(build, X, {**W, "v": (WIDTH,)})


@pytest.mark.parametrize(
    "module", [unrelated_square, norm_over_tokens, scaled_by_activations, scaled_twice]
)
def test_fuse_norm_does_not_apply(module: Callable[[], tvm.IRModule]) -> None:
    check_unchanged(module(), fuse_norm(module()))


# --- with the residual -------------------------------------------------------------------------

TWO = {"x": (1, TOKENS, WIDTH), "y": (1, TOKENS, WIDTH)}


def test_residual_norm() -> None:
    def before(emit: Emit, x: Var, y: Var, w: Var) -> relax.Tuple:
        total = emit(relax.op.add(x, y))
        return relax.Tuple([total, norm(emit, total, w)])

    def expected(emit: Emit, x: Var, y: Var, w: Var) -> relax.Tuple:
        both = emit(call_op("residual_norm", [x, y, w], kind="rms", eps=EPS))
        normed = emit(relax.TupleGetItem(both, 1))
        return relax.Tuple([emit(relax.TupleGetItem(both, 0)), normed])

    module = trace(before, TWO, W)
    check_rewrite(module, fuse_residual_norm(module), trace(expected, TWO, W))


def test_two_norms_of_one_sum() -> None:
    """GPT-NeoX's parallel branches: the first norm is taken in, the second reads the sum."""

    def before(emit: Emit, x: Var, y: Var, w: Var, v: Var) -> relax.Tuple:
        total = emit(relax.op.add(x, y))
        return relax.Tuple([norm(emit, total, w), norm(emit, total, v)])

    def expected(emit: Emit, x: Var, y: Var, w: Var, v: Var) -> relax.Tuple:
        both = emit(call_op("residual_norm", [x, y, w], kind="rms", eps=EPS))
        first = emit(relax.TupleGetItem(both, 1))
        total = emit(relax.TupleGetItem(both, 0))
        return relax.Tuple([first, norm(emit, total, v)])

    weights = {**W, "v": (WIDTH,)}
    module = trace(before, TWO, weights)
    check_rewrite(module, fuse_residual_norm(module), trace(expected, TWO, weights))


def test_weight_made_after_the_sum() -> None:
    """`1 + w` stands between the sum and its norm where no clean-up has moved it to the front."""

    def before(emit: Emit, x: Var, y: Var, w: Var) -> relax.Tuple:
        total = emit(relax.op.add(x, y))
        return relax.Tuple([total, norm(emit, total, emit(relax.op.add(w, relax.const(1.0))))])

    def expected(emit: Emit, x: Var, y: Var, w: Var) -> relax.Tuple:
        weight = emit(relax.op.add(w, relax.const(1.0)))
        both = emit(call_op("residual_norm", [x, y, weight], kind="rms", eps=EPS))
        normed = emit(relax.TupleGetItem(both, 1))
        return relax.Tuple([emit(relax.TupleGetItem(both, 0)), normed])

    module = trace(before, TWO, W)
    check_rewrite(module, fuse_residual_norm(module), trace(expected, TWO, W))


def sum_without_norm() -> tvm.IRModule:
    return trace(lambda emit, x, y: emit(relax.op.add(x, y)), TWO)


def sum_with_bias() -> tvm.IRModule:
    def build(emit: Emit, x: Var, w: Var) -> Var:
        return norm(emit, emit(relax.op.add(x, w)))

    return trace(build, X, W)


def sum_of_heads() -> tvm.IRModule:
    """The kernel of the sum knows rows of one norm each, not of one a head."""

    def build(emit: Emit, x: Var, y: Var) -> Var:
        return norm(emit, emit(relax.op.add(x, y)))

    heads = (1, TOKENS, 3, WIDTH)
    return trace(build, {"x": heads, "y": heads})


@pytest.mark.parametrize("module", [sum_without_norm, sum_with_bias, sum_of_heads])
def test_fuse_residual_norm_does_not_apply(module: Callable[[], tvm.IRModule]) -> None:
    check_unchanged(module(), fuse_residual_norm(module()))


def test_what_is_left_unused_is_dropped() -> None:
    module = trace(lambda emit, x: rms(emit, x), X)
    assert operators(fuse_norm(module).module) == ["ingot.norm"]
