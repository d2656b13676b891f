"""Rotary embedding in its spellings becomes one operator on `[1, n, heads, head_dim]`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tvm
from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.fuse_rope import fuse_rope
from tests.compile.graphs import TOKENS, Emit, check_rewrite, check_unchanged, trace

HEADS, DIM = 3, 8
SWAP = [0, 2, 1, 3]
HEAD_MAJOR, TOKEN_MAJOR = (1, HEADS, TOKENS, DIM), (1, TOKENS, HEADS, DIM)
Rotate = Callable[[Emit, Var], Var]


def columns(emit: Emit, x: Var, begin: int, end: int, step: int = 1) -> Var:
    return emit(relax.op.strided_slice(x, [len(x.ty.shape) - 1], [begin], [end], [step]))


def rotate_half(emit: Emit, x: Var) -> Var:
    """`[-x2, x1]`; the upper bound is what the exporter writes for `x[..., k:]`."""
    half = int(x.ty.shape[-1]) // 2
    first, second = columns(emit, x, 0, half), columns(emit, x, half, 2**63 - 1)
    return emit(relax.op.concat([emit(relax.op.negative(second)), first], axis=-1))


def rotate_pairs(emit: Emit, x: Var) -> Var:
    """`stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)`."""
    shape = list(x.ty.shape)
    width = int(shape[-1])
    even, odd = columns(emit, x, 0, width, 2), columns(emit, x, 1, width, 2)
    fields = [
        emit(relax.op.reshape(field, [*shape[:-1], width // 2, 1]))
        for field in (emit(relax.op.negative(odd)), even)
    ]
    return emit(relax.op.reshape(emit(relax.op.concat(fields, axis=-1)), shape))


def rotated(emit: Emit, x: Var, cos: Var, sin: Var, rotate: Rotate) -> Var:
    straight = emit(relax.op.multiply(x, cos))
    return emit(relax.op.add(straight, emit(relax.op.multiply(rotate(emit, x), sin))))


def flat_tables(emit: Emit, cos: Var, sin: Var, width: int) -> list[Var]:
    return [emit(relax.op.reshape(table, [1, TOKENS, width])) for table in (cos, sin)]


def tables(*shape: object) -> dict[str, tuple[object, ...]]:
    return {"cos": shape, "sin": shape}


@pytest.mark.parametrize("rotate", [rotate_half, rotate_pairs])
def test_head_major(rotate: Rotate) -> None:
    def before(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        return rotated(emit, x, cos, sin, rotate)

    def expected(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        cos, sin = flat_tables(emit, cos, sin, DIM)
        swapped = emit(relax.op.permute_dims(x, SWAP))
        attrs = {"interleaved": rotate is rotate_pairs, "rotary_dim": DIM}
        return emit(
            relax.op.permute_dims(emit(call_op("rope", [swapped, cos, sin], **attrs)), SWAP)
        )

    inputs = {"x": HEAD_MAJOR, **tables(1, 1, TOKENS, DIM)}
    module = trace(before, inputs)
    check_rewrite(module, fuse_rope(module), trace(expected, inputs))


@pytest.mark.parametrize("rotate", [rotate_half, rotate_pairs])
def test_token_major(rotate: Rotate) -> None:
    def before(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        return rotated(emit, x, cos, sin, rotate)

    def expected(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        cos, sin = flat_tables(emit, cos, sin, DIM)
        attrs = {"interleaved": rotate is rotate_pairs, "rotary_dim": DIM}
        return emit(call_op("rope", [x, cos, sin], **attrs))

    inputs = {"x": TOKEN_MAJOR, **tables(1, TOKENS, 1, DIM)}
    module = trace(before, inputs)
    check_rewrite(module, fuse_rope(module), trace(expected, inputs))


def test_operands_in_another_order() -> None:
    def before(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        turned = emit(relax.op.multiply(sin, rotate_half(emit, x)))
        return emit(relax.op.add(turned, emit(relax.op.multiply(cos, x))))

    def expected(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        cos, sin = flat_tables(emit, cos, sin, DIM)
        return emit(call_op("rope", [x, cos, sin], interleaved=False, rotary_dim=DIM))

    inputs = {"x": TOKEN_MAJOR, **tables(1, TOKENS, 1, DIM)}
    module = trace(before, inputs)
    check_rewrite(module, fuse_rope(module), trace(expected, inputs))


@pytest.mark.parametrize("rotate", [rotate_half, rotate_pairs])
def test_partial_head_major(rotate: Rotate) -> None:
    """The first columns of each head turn, the others are concatenated behind them."""

    def before(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        first = rotated(emit, columns(emit, x, 0, 4), cos, sin, rotate)
        return emit(relax.op.concat([first, columns(emit, x, 4, DIM)], axis=-1))

    def expected(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        cos, sin = flat_tables(emit, cos, sin, 4)
        swapped = emit(relax.op.permute_dims(x, SWAP))
        attrs = {"interleaved": rotate is rotate_pairs, "rotary_dim": 4}
        return emit(
            relax.op.permute_dims(emit(call_op("rope", [swapped, cos, sin], **attrs)), SWAP)
        )

    inputs = {"x": HEAD_MAJOR, **tables(1, 1, TOKENS, 4)}
    module = trace(before, inputs)
    check_rewrite(module, fuse_rope(module), trace(expected, inputs))


def test_partial_token_major() -> None:
    def before(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        first = rotated(emit, columns(emit, x, 0, 4), cos, sin, rotate_pairs)
        return emit(relax.op.concat([first, columns(emit, x, 4, DIM)], axis=-1))

    def expected(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        cos, sin = flat_tables(emit, cos, sin, 4)
        return emit(call_op("rope", [x, cos, sin], interleaved=True, rotary_dim=4))

    inputs = {"x": TOKEN_MAJOR, **tables(1, TOKENS, 1, 4)}
    module = trace(before, inputs)
    check_rewrite(module, fuse_rope(module), trace(expected, inputs))


def test_rest_of_another_tensor_stays_apart() -> None:
    """What is rotated and what is concatenated behind it must be columns of the same heads."""

    def before(emit: Emit, x: Var, y: Var, cos: Var, sin: Var) -> Var:
        first = rotated(emit, columns(emit, x, 0, 4), cos, sin, rotate_half)
        return emit(relax.op.concat([first, columns(emit, y, 4, DIM)], axis=-1))

    def expected(emit: Emit, x: Var, y: Var, cos: Var, sin: Var) -> Var:
        part = columns(emit, x, 0, 4)
        cos, sin = flat_tables(emit, cos, sin, 4)
        first = emit(call_op("rope", [part, cos, sin], interleaved=False, rotary_dim=4))
        return emit(relax.op.concat([first, columns(emit, y, 4, DIM)], axis=-1))

    inputs = {"x": TOKEN_MAJOR, "y": TOKEN_MAJOR, **tables(1, TOKENS, 1, 4)}
    module = trace(before, inputs)
    check_rewrite(module, fuse_rope(module), trace(expected, inputs))


def swapped_signs() -> tvm.IRModule:
    def build(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        first, second = columns(emit, x, 0, 4), columns(emit, x, 4, DIM)
        turned = emit(relax.op.concat([second, emit(relax.op.negative(first))], axis=-1))
        straight = emit(relax.op.multiply(x, cos))
        return emit(relax.op.add(straight, emit(relax.op.multiply(turned, sin))))

    return trace(build, {"x": TOKEN_MAJOR, **tables(1, TOKENS, 1, DIM)})


def halves_out_of_order() -> tvm.IRModule:
    def build(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        first, second = columns(emit, x, 0, 4), columns(emit, x, 4, DIM)
        turned = emit(relax.op.concat([emit(relax.op.negative(first)), second], axis=-1))
        straight = emit(relax.op.multiply(x, cos))
        return emit(relax.op.add(straight, emit(relax.op.multiply(turned, sin))))

    return trace(build, {"x": TOKEN_MAJOR, **tables(1, TOKENS, 1, DIM)})


def half_of_another_tensor() -> tvm.IRModule:
    def build(emit: Emit, x: Var, y: Var, cos: Var, sin: Var) -> Var:
        straight = emit(relax.op.multiply(x, cos))
        turned = emit(relax.op.multiply(rotate_half(emit, y), sin))
        return emit(relax.op.add(straight, turned))

    return trace(build, {"x": TOKEN_MAJOR, "y": TOKEN_MAJOR, **tables(1, TOKENS, 1, DIM)})


def table_for_each_head() -> tvm.IRModule:
    def build(emit: Emit, x: Var, cos: Var, sin: Var) -> Var:
        return rotated(emit, x, cos, sin, rotate_half)

    return trace(build, {"x": TOKEN_MAJOR, **tables(1, TOKENS, HEADS, DIM)})


@pytest.mark.parametrize(
    "module", [swapped_signs, halves_out_of_order, half_of_another_tensor, table_for_each_head]
)
def test_does_not_apply(module: Callable[[], tvm.IRModule]) -> None:
    check_unchanged(module(), fuse_rope(module()))
