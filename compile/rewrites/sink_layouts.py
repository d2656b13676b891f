"""Changes of layout sink past operators that they don't touch, until they meet their inverses.

Models compute norms and RoPE on `[1, heads, n, dim]` and some linears on `[n, width]`; every kernel
reads `[1, n, heads, dim]` and `[1, n, width]`, as the projections leave them. The permutation of
heads and tokens, and the reshape that drops the leading axis, move behind whatever works on single
elements, along the last axis or on parts of an axis. Runs after a clean-up: reshapes are merged,
there is no split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import tvm
from tvm import relax

from ingot.compile.graph import Graph, Rewritten, apply_rule, is_one, is_op, same_extents, shape_of
from ingot.compile.rewrites.clean_up import permutation_of

_SWAP_HEADS = [0, 2, 1, 3]
_UNARY = frozenset(
    f"relax.{name}"
    for name in (
        *("abs", "astype", "clip", "exp", "negative", "rsqrt", "sigmoid", "sqrt", "square"),
        *("tanh", "nn.gelu", "nn.gelu_tanh", "nn.relu", "nn.silu"),
    )
)
_BINARY = frozenset(
    f"relax.{name}"
    for name in ("add", "divide", "maximum", "minimum", "multiply", "power", "subtract")
)


class _Layout(Protocol):
    """One change of layout that may sink."""

    def source(self, graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        """What was changed if `expr` is such a change."""

    def source_axis(self, axis: int) -> int:
        """Where an axis of the changed tensor is in its source."""

    def undone(self, graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        """`expr` as it broadcasts with a source; `None` where that takes moving data."""

    def change(self, expr: relax.Expr) -> relax.Expr: ...


class _HeadsFirst:
    """`[1, n, heads, dim]` to `[1, heads, n, dim]`."""

    def source(self, graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        call = graph.match(expr, "relax.permute_dims")
        if call is None or len(shape_of(expr)) != 4 or permutation_of(call) != _SWAP_HEADS:
            return None
        return call.args[0]

    def source_axis(self, axis: int) -> int:
        return _SWAP_HEADS[axis]

    def undone(self, graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        shape = shape_of(expr)
        if len(shape) <= 1:
            return expr
        batch, heads, tokens, width = [1] * (4 - len(shape)) + shape
        if not is_one(heads) and not is_one(tokens):
            return None
        return graph.emit(relax.op.reshape(expr, [batch, tokens, heads, width]))

    def change(self, expr: relax.Expr) -> relax.Expr:
        return relax.op.permute_dims(expr, _SWAP_HEADS)


class _RowsOnly:
    """`[1, n, width]`, or `[1, n, heads, dim]`, to `[n, width]`."""

    def source(self, graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        call = graph.match(expr, "relax.reshape")
        if call is None or len(shape_of(expr)) != 2 or len(shape_of(call.args[0])) < 3:
            return None
        batch, tokens, *_ = shape_of(call.args[0])
        if not is_one(batch) or not same_extents([tokens], shape_of(expr)[:1]):
            return None
        if len(shape_of(call.args[0])) == 3:
            return call.args[0]
        return graph.emit(relax.op.reshape(call.args[0], [1, *shape_of(expr)]))

    def source_axis(self, axis: int) -> int:
        return axis + 1

    def undone(self, graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        shape = shape_of(expr)
        return expr if len(shape) <= 1 else graph.emit(relax.op.reshape(expr, [1, *shape]))

    def change(self, expr: relax.Expr) -> relax.Expr:
        return relax.op.reshape(expr, shape_of(expr)[1:])


_LAYOUTS: tuple[_Layout, ...] = (_HeadsFirst(), _RowsOnly())


def sink_layouts(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _sink)


def _sink(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return None
    for layout in _LAYOUTS:
        before = _on_source(graph, value, layout)
        if before is not None:
            return layout.change(graph.emit(before))
    return None


def _on_source(graph: Graph, value: relax.Call, layout: _Layout) -> relax.Expr | None:
    """`value` as it is computed before the change of layout."""
    if value.op.name in _BINARY:
        operands = _both(graph, value.args, layout)
        return relax.Call(value.op, operands, value.attrs) if operands is not None else None
    if is_op(value, "relax.concat"):
        return _concat(graph, value, layout)
    x = layout.source(graph, value.args[0]) if value.args else None
    if x is None:
        return None
    if is_op(value, "relax.strided_slice"):
        return _slice(value, x, layout)
    if value.op.name in _UNARY or _is_along_last_axis(value):
        return relax.Call(value.op, [x, *value.args[1:]], value.attrs, value.ty_args)
    return None


def _concat(graph: Graph, value: relax.Call, layout: _Layout) -> relax.Expr | None:
    if not isinstance(value.args[0], relax.Tuple):
        return None
    parts = [layout.source(graph, field) for field in value.args[0].fields]
    if any(part is None for part in parts):
        return None
    axis = int(value.attrs.axis) % len(shape_of(value))
    return relax.op.concat(parts, layout.source_axis(axis))


def _slice(value: relax.Call, x: relax.Expr, layout: _Layout) -> relax.Expr | None:
    axes, *bounds = ([int(number) for number in arg.fields] for arg in value.args[1:])
    rank = len(shape_of(value))
    source_axes = [layout.source_axis(axis % rank) for axis in axes]
    return relax.op.strided_slice(x, source_axes, *bounds)


def _is_along_last_axis(value: relax.Call) -> bool:
    rank = len(shape_of(value.args[0]))
    if value.op.name in ("ingot.linear", "ingot.norm"):
        return True
    if is_op(value, "relax.matmul"):
        return rank == 2 and len(shape_of(value.args[1])) == 2
    if is_op(value, "relax.mean") or is_op(value, "relax.sum"):
        axes = [int(axis) % rank for axis in value.attrs.axis or []]
        return bool(value.attrs.keepdims) and axes == [rank - 1]
    if is_op(value, "relax.nn.layer_norm"):
        inside = all(len(shape_of(operand)) == 1 for operand in value.args[1:])
        return inside and [int(axis) % rank for axis in value.attrs.axes] == [rank - 1]
    return False


def _both(graph: Graph, args: Sequence[relax.Expr], layout: _Layout) -> list[relax.Expr] | None:
    sources = [layout.source(graph, arg) for arg in args]
    if all(source is None for source in sources):
        return None
    undone = [
        source if source is not None else layout.undone(graph, arg)
        for source, arg in zip(sources, args, strict=True)
    ]
    return None if any(operand is None for operand in undone) else undone
