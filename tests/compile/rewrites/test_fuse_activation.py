"""Activations in every spelling become one operator, and take in the product with the gate."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import tvm
from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.fuse_activation import fuse_activation, fuse_gated_activation
from tests.compile.graphs import TOKENS, Emit, check_rewrite, check_unchanged, trace

WIDTH = 6
X = {"x": (1, TOKENS, WIDTH)}
Spelling = Callable[[Emit, Var], Var]


def const(value: float) -> relax.Constant:
    return relax.const(value, "float32")


def times(emit: Emit, *factors: relax.Expr) -> Var:
    product = factors[0]
    for factor in factors[1:]:
        product = emit(relax.op.multiply(product, factor))
    return product


def plus(emit: Emit, x: relax.Expr, y: relax.Expr) -> Var:
    return emit(relax.op.add(x, y))


def silu(emit: Emit, x: Var) -> Var:
    return times(emit, x, emit(relax.op.sigmoid(x)))


def silu_gate_first(emit: Emit, x: Var) -> Var:
    return times(emit, emit(relax.op.sigmoid(x)), x)


def quick_gelu(emit: Emit, x: Var) -> Var:
    return times(emit, x, emit(relax.op.sigmoid(times(emit, const(1.702), x))))


def gelu(emit: Emit, x: Var) -> Var:
    """As the exporter takes `aten.gelu` apart."""
    erf = emit(relax.op.erf(times(emit, x, const(math.sqrt(0.5)))))
    return times(emit, times(emit, x, const(0.5)), plus(emit, erf, const(1.0)))


def gelu_by_quotient(emit: Emit, x: Var) -> Var:
    """`x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))`."""
    erf = emit(relax.op.erf(emit(relax.op.divide(x, const(math.sqrt(2.0))))))
    return times(emit, x, const(0.5), plus(emit, const(1.0), erf))


def gelu_new(emit: Emit, x: Var) -> Var:
    """`0.5 * x * (1.0 + tanh(sqrt(2 / pi) * (x + 0.044715 * pow(x, 3))))`: GPT-2, GPT-J."""
    cube = emit(relax.op.power(x, const(3.0)))
    inner = plus(emit, x, times(emit, const(0.044715), cube))
    tanh = emit(relax.op.tanh(times(emit, const(math.sqrt(2 / math.pi)), inner)))
    return times(emit, times(emit, const(0.5), x), plus(emit, const(1.0), tanh))


def gelu_tanh(emit: Emit, x: Var) -> Var:
    """As the exporter takes `aten.gelu(approximate="tanh")` apart: Gemma."""
    cube = times(emit, x, x, x)
    inner = plus(emit, x, times(emit, cube, const(0.044715)))
    tanh = emit(relax.op.tanh(times(emit, inner, const(math.sqrt(2 / math.pi)))))
    return times(emit, times(emit, x, const(0.5)), plus(emit, tanh, const(1.0)))


def gelu_fast(emit: Emit, x: Var) -> Var:
    """`0.5 * x * (1 + tanh(x * 0.79788456 * (1 + 0.044715 * x * x)))`: BLOOM."""
    square = times(emit, const(0.044715), x, x)
    inner = times(emit, x, const(0.79788456), plus(emit, const(1.0), square))
    one_plus = plus(emit, const(1.0), emit(relax.op.tanh(inner)))
    return times(emit, x, const(0.5), one_plus)


SPELLINGS: list[tuple[Spelling, str]] = [
    (silu, "silu"),
    (silu_gate_first, "silu"),
    (quick_gelu, "quick_gelu"),
    (gelu, "gelu"),
    (gelu_by_quotient, "gelu"),
    (gelu_new, "gelu_tanh"),
    (gelu_tanh, "gelu_tanh"),
    (gelu_fast, "gelu_tanh"),
    (lambda emit, x: emit(relax.op.nn.silu(x)), "silu"),
    (lambda emit, x: emit(relax.op.nn.relu(x)), "relu"),
    (lambda emit, x: emit(relax.op.nn.gelu(x)), "gelu"),
    (lambda emit, x: emit(relax.op.nn.gelu_tanh(x)), "gelu_tanh"),
]


@pytest.mark.parametrize(("spelling", "kind"), SPELLINGS)
def test_activation(spelling: Spelling, kind: str) -> None:
    module = trace(spelling, X)
    expected = trace(lambda emit, x: emit(call_op("activation", [x], kind=kind)), X)
    check_rewrite(module, fuse_activation(module), expected)


SQUARES: dict[str, Spelling] = {
    "power": lambda emit, x: emit(relax.op.power(x, const(2.0))),
    "square": lambda emit, x: emit(relax.op.square(x)),
    "product": lambda emit, x: times(emit, x, x),
}


@pytest.mark.parametrize("square", SQUARES)
def test_squared_relu(square: str) -> None:
    module = trace(lambda emit, x: SQUARES[square](emit, emit(relax.op.nn.relu(x))), X)
    expected = trace(lambda emit, x: emit(call_op("activation", [x], kind="relu2")), X)
    check_rewrite(module, fuse_activation(module), expected, num_matched=2)


def gated_by_another(emit: Emit, x: Var, y: Var) -> Var:
    return times(emit, x, emit(relax.op.sigmoid(y)))


def gelu_of_another(emit: Emit, x: Var, y: Var) -> Var:
    erf = emit(relax.op.erf(times(emit, y, const(math.sqrt(0.5)))))
    return times(emit, times(emit, x, const(0.5)), plus(emit, erf, const(1.0)))


def another_constant(emit: Emit, x: Var, _: Var) -> Var:
    erf = emit(relax.op.erf(times(emit, x, const(0.7))))
    return times(emit, times(emit, x, const(0.5)), plus(emit, erf, const(1.0)))


def cube_of_another(emit: Emit, x: Var, y: Var) -> Var:
    inner = plus(emit, x, times(emit, times(emit, x, x, y), const(0.044715)))
    tanh = emit(relax.op.tanh(times(emit, inner, const(math.sqrt(2 / math.pi)))))
    return times(emit, times(emit, x, const(0.5)), plus(emit, tanh, const(1.0)))


def squared_input(emit: Emit, x: Var, _: Var) -> Var:
    return times(emit, x, x)


@pytest.mark.parametrize(
    "build",
    [gated_by_another, gelu_of_another, another_constant, cube_of_another, squared_input],
)
def test_fuse_activation_does_not_apply(build: Callable[..., Var]) -> None:
    module = trace(build, {**X, "y": (1, TOKENS, WIDTH)})
    check_unchanged(module, fuse_activation(module))


# --- with the gate -----------------------------------------------------------------------------


def activated(emit: Emit, x: Var) -> Var:
    return emit(call_op("activation", [x], kind="silu"))


def half(emit: Emit, x: Var, begin: int, end: int) -> Var:
    return emit(relax.op.strided_slice(x, [2], [begin], [end], [1]))


@pytest.mark.parametrize("up_first", [False, True])
def test_gate_and_up_apart(up_first: bool) -> None:
    def before(emit: Emit, gate: Var, up: Var) -> Var:
        factors = [activated(emit, gate), up]
        return times(emit, *(reversed(factors) if up_first else factors))

    def expected(emit: Emit, gate: Var, up: Var) -> Var:
        return emit(call_op("gated_activation", [gate, up], kind="silu"))

    inputs = {"gate": X["x"], "up": X["x"]}
    module = trace(before, inputs)
    check_rewrite(module, fuse_gated_activation(module), trace(expected, inputs))


def test_halves_of_one_matmul() -> None:
    def before(emit: Emit, x: Var) -> Var:
        gate, up = half(emit, x, 0, 3), half(emit, x, 3, 2**63 - 1)
        return times(emit, activated(emit, gate), up)

    def expected(emit: Emit, x: Var) -> Var:
        return emit(call_op("gated_activation", [x], kind="silu"))

    module = trace(before, X)
    check_rewrite(module, fuse_gated_activation(module), trace(expected, X))


def test_halves_the_other_way_round() -> None:
    """Up before gate is not what the kernel reads in place, so both are given on their own."""

    def before(emit: Emit, x: Var) -> Var:
        up, gate = half(emit, x, 0, 3), half(emit, x, 3, 6)
        return times(emit, activated(emit, gate), up)

    def expected(emit: Emit, x: Var) -> Var:
        up, gate = half(emit, x, 0, 3), half(emit, x, 3, 6)
        return emit(call_op("gated_activation", [gate, up], kind="silu"))

    module = trace(before, X)
    check_rewrite(module, fuse_gated_activation(module), trace(expected, X))


def scaled_by_weight() -> tvm.IRModule:
    def build(emit: Emit, x: Var, w: Var) -> Var:
        return times(emit, activated(emit, x), w)

    return trace(build, X, {"w": (1, 1, WIDTH)})


def broadcast_gate() -> tvm.IRModule:
    """One number a token: PaLM-like gates of heads are not elementwise."""

    def build(emit: Emit, x: Var, gate: Var) -> Var:
        return times(emit, activated(emit, gate), x)

    return trace(build, {**X, "gate": (1, TOKENS, 1)})


@pytest.mark.parametrize("module", [scaled_by_weight, broadcast_gate])
def test_fuse_gated_activation_does_not_apply(module: Callable[[], tvm.IRModule]) -> None:
    check_unchanged(module(), fuse_gated_activation(module()))
