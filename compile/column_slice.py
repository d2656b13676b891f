"""Ranges of a matrix's columns, so that a kernel can read a part of a merged matmul in place."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax

from ingot.compile.graph import Graph, shape_of


@dataclass(frozen=True, slots=True)
class ColumnSlice:
    """Columns `[begin, end)` of the last axis of `matrix`."""

    matrix: relax.Expr
    begin: int
    end: int


def column_slice(graph: Graph, expr: relax.Expr) -> ColumnSlice | None:
    """What `expr` is a contiguous range of columns of, or `None` if it is not one."""
    call = graph.match(expr, "relax.strided_slice")
    if call is None:
        return None
    bounds = slice_bounds(call)
    width = shape_of(call.args[0])[-1]
    if bounds is None or bounds[2] != 1:
        return None
    begin, end = (clamp(index, int(width)) for index in bounds[:2])
    return ColumnSlice(call.args[0], begin, end)


def slice_bounds(call: relax.Call) -> tuple[int, int, int] | None:
    """`(begin, end, step)` of a slice of the last axis alone with constant bounds."""
    x, axes, begins, ends = call.args[:4]
    steps = call.args[4].fields if len(call.args) > 4 else [1]
    rank = len(shape_of(x))
    fields = (axes.fields, begins.fields, ends.fields, steps)
    if any(len(field) != 1 for field in fields):
        return None
    try:
        axis, begin, end, step = (int(field[0]) for field in fields)
    except TypeError:  # a symbolic bound
        return None
    return (begin, end, step) if axis % rank == rank - 1 else None


def clamp(index: int, width: int) -> int:
    """A slice's bound as Python reads it, within `[0, width]`."""
    return max(0, min(index + width if index < 0 else index, width))


def slice_columns(matrix: relax.Expr, begin: int, end: int) -> relax.Expr:
    return relax.op.strided_slice(matrix, [len(shape_of(matrix)) - 1], [begin], [end], [1])
