"""What follows the last attention is computed for the rows that get logits alone."""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.gather_early import gather_early
from tests.compile.graphs import (
    TOKENS,
    Emit,
    check_rewrite,
    check_same_values,
    check_unchanged,
    trace,
)

INPUTS = {"attention": (1, TOKENS, 4), "before": (1, TOKENS, 6)}
WEIGHTS = {"o": (6, 4), "norm": (6,), "gate_up": (10, 6), "down": (6, 5), "head": (9, 6)}


def gather(emit: Emit, x: Var) -> Var:
    return emit(call_op("gather_rows", [x, relax.const([3, 0], "int32")]))


def layer(
    emit: Emit, attention: Var, before: Var, weights: tuple[Var, ...], rows: Callable[..., Var]
) -> Var:
    """All of a layer that follows its attention, for the rows of its inputs that `rows` gives."""
    o, norm, gate_up, down, _head = weights
    projected = emit(call_op("linear", [rows(emit, attention), o]))
    operands = [projected, rows(emit, before), norm]
    both = emit(call_op("residual_norm", operands, kind="rms", eps=1e-6))
    total = emit(relax.TupleGetItem(both, 0))
    normed = emit(relax.TupleGetItem(both, 1))
    gated = emit(call_op("gated_linear", [normed, gate_up], kind="silu"))
    return emit(relax.op.add(total, emit(call_op("linear", [gated, down]))))


def all_rows(_emit: Emit, x: Var) -> Var:
    return x


def head(emit: Emit, rows: Var, weights: tuple[Var, ...]) -> Var:
    return emit(call_op("linear", [rows, weights[-1]], role="head"))


def test_the_last_layer_from_its_attention_on() -> None:
    def before(emit: Emit, attention: Var, residual: Var, *weights: Var) -> Var:
        hidden = layer(emit, attention, residual, weights, all_rows)
        return head(emit, gather(emit, hidden), weights)

    def expected(emit: Emit, attention: Var, residual: Var, *weights: Var) -> Var:
        return head(emit, layer(emit, attention, residual, weights, gather), weights)

    module = trace(before, INPUTS, WEIGHTS)
    check_rewrite(module, gather_early(module), trace(expected, INPUTS, WEIGHTS))


def test_a_returned_layer_is_computed_for_all_rows_as_well() -> None:
    def before(emit: Emit, attention: Var, residual: Var, *weights: Var) -> relax.Tuple:
        x = layer(emit, attention, residual, weights, all_rows)
        both = emit(call_op("residual_norm", [x, residual, weights[1]], kind="rms", eps=1e-6))
        hidden = emit(relax.TupleGetItem(both, 0))
        normed = emit(relax.TupleGetItem(both, 1))
        return relax.Tuple([head(emit, gather(emit, normed), weights), hidden])

    module = trace(before, INPUTS, WEIGHTS)
    rewritten = gather_early(module)
    assert rewritten.num_matched == 1
    check_same_values(module, rewritten.module)


def test_rows_that_attention_reads_stay() -> None:
    def before(emit: Emit, _attention: Var, residual: Var, *weights: Var) -> relax.Tuple:
        values = emit(call_op("linear", [residual, weights[2]]))
        heads = emit(relax.op.reshape(values, [1, TOKENS, 2, 5]))
        return relax.Tuple([gather(emit, values), heads])

    module = trace(before, INPUTS, WEIGHTS)
    check_unchanged(module, gather_early(module))


def test_without_a_linear_to_save_the_gather_stays() -> None:
    def before(emit: Emit, _attention: Var, residual: Var, *_weights: Var) -> Var:
        return gather(emit, emit(relax.op.add(residual, residual)))

    module = trace(before, INPUTS, WEIGHTS)
    check_unchanged(module, gather_early(module))


def test_a_sum_whose_norm_attention_reads_is_gathered_as_it_is() -> None:
    """What enters the last layer: its norm feeds the projections of all tokens."""

    def before(emit: Emit, attention: Var, residual: Var, *weights: Var) -> relax.Tuple:
        operands = [residual, residual, weights[1]]
        both = emit(call_op("residual_norm", operands, kind="rms", eps=1e-6))
        total = emit(relax.TupleGetItem(both, 0))
        heads = emit(relax.op.reshape(emit(relax.TupleGetItem(both, 1)), [1, TOKENS, 2, 3]))
        rows = gather(emit, layer(emit, attention, total, weights, all_rows))
        return relax.Tuple([head(emit, rows, weights), heads])

    module = trace(before, INPUTS, WEIGHTS)
    rewritten = gather_early(module)
    assert rewritten.num_matched == 1
    check_same_values(module, rewritten.module)
