"""Changes of layout sink past what they don't touch and cancel; others stay where they are."""

from __future__ import annotations

from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.clean_up import clean_up
from ingot.compile.rewrites.sink_layouts import sink_layouts
from tests.compile.graphs import (
    TOKENS,
    Emit,
    check_same_values,
    check_unchanged,
    operators,
    trace,
)

HEADS, DIM = 3, 4
SWAP = [0, 2, 1, 3]
X = {"x": (1, TOKENS, HEADS, DIM)}
ROWS = {"x": (1, TOKENS, HEADS * DIM)}


def swap(emit: Emit, x: relax.Expr) -> Var:
    return emit(relax.op.permute_dims(x, SWAP))


def test_heads_meet_their_inverse() -> None:
    """A norm, a rotation and a bias on head-major tensors, then the attention's permutation."""

    def before(emit: Emit, x: Var, cos: Var, w: Var) -> Var:
        heads = swap(emit, x)
        mean = emit(relax.op.mean(emit(relax.op.square(heads)), [-1], keepdims=True))
        scaled = emit(relax.op.multiply(heads, emit(relax.op.rsqrt(mean))))
        table = emit(relax.op.reshape(cos, [1, 1, TOKENS, DIM]))
        turned = emit(relax.op.multiply(emit(relax.op.add(scaled, w)), table))
        first = emit(relax.op.strided_slice(turned, [3], [0], [2]))
        second = emit(relax.op.strided_slice(turned, [-1], [2], [4]))
        negative = emit(relax.op.negative(second))
        return swap(emit, emit(relax.op.concat([negative, first], -1)))

    module = trace(before, {**X, "cos": (1, TOKENS, DIM)}, {"w": (DIM,)})
    rewritten = sink_layouts(module)
    cleaned = clean_up(rewritten.module)
    assert rewritten.num_matched == 10
    assert "relax.permute_dims" not in operators(cleaned.module)
    check_same_values(module, cleaned.module)


def test_slices_and_joins_of_heads() -> None:
    def before(emit: Emit, x: Var) -> Var:
        heads = swap(emit, x)
        last = emit(relax.op.strided_slice(heads, [1], [2], [3]))
        others = emit(relax.op.strided_slice(heads, [1], [0], [2]))
        return swap(emit, emit(relax.op.concat([last, others], 1)))

    module = trace(before, X)
    cleaned = clean_up(sink_layouts(module).module)
    assert "relax.permute_dims" not in operators(cleaned.module)
    check_same_values(module, cleaned.module)


def test_rows_meet_their_inverse() -> None:
    """A linear and a residual sum on `[n, width]`."""
    width = HEADS * DIM

    def before(emit: Emit, x: Var, w: Var, b: Var) -> Var:
        rows = emit(relax.op.reshape(x, [TOKENS, width]))
        product = emit(relax.op.add(emit(relax.op.matmul(rows, w)), b))
        total = emit(relax.op.add(emit(relax.op.nn.relu(product)), rows))
        return emit(relax.op.reshape(total, [1, TOKENS, width]))

    module = trace(before, ROWS, {"w": (width, width), "b": (width,)})
    cleaned = clean_up(sink_layouts(module).module)
    assert "relax.reshape" not in operators(cleaned.module)
    check_same_values(module, cleaned.module)


def test_rows_of_heads() -> None:
    """Attention's output goes to `[n, width]` in one reshape."""
    width = HEADS * DIM

    def before(emit: Emit, x: Var, w: Var) -> Var:
        rows = emit(relax.op.reshape(x, [TOKENS, width]))
        return emit(relax.op.reshape(emit(relax.op.matmul(rows, w)), [1, TOKENS, width]))

    module = trace(before, X, {"w": (width, width)})
    cleaned = clean_up(sink_layouts(module).module)
    assert operators(cleaned.module) == ["relax.reshape", "relax.matmul"]
    check_same_values(module, cleaned.module)


def test_operator_norm_sinks_too() -> None:
    def before(emit: Emit, x: Var) -> Var:
        return emit(call_op("norm", [swap(emit, x)], kind="rms", eps=1e-5))

    assert operators(sink_layouts(trace(before, X)).module) == ["ingot.norm", "relax.permute_dims"]


def test_does_not_apply() -> None:
    """Softmax over heads, other permutations and operands that differ by head stay."""

    def over_heads(emit: Emit, x: Var) -> Var:
        return emit(relax.op.mean(swap(emit, x), [1], keepdims=True))

    def other(emit: Emit, x: Var) -> Var:
        return emit(relax.op.negative(emit(relax.op.permute_dims(x, [0, 2, 3, 1]))))

    def by_token_and_head(emit: Emit, x: Var, y: Var) -> Var:
        return emit(relax.op.add(swap(emit, x), y))

    for module in (
        trace(over_heads, X),
        trace(other, X),
        trace(by_token_and_head, {**X, "y": (1, HEADS, TOKENS, DIM)}),
    ):
        check_unchanged(module, sink_layouts(module))
