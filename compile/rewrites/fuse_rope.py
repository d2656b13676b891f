"""Rotary embedding, written out in the models' code, to `ingot.rope`.

Half-split (`x cos + [-x2, x1] sin`) and interleaved pairs are recognised, on head-major
`[1, heads, n, dim]` and token-major tensors, whole or on the first columns of a head (partial
rotary). The operator is token-major; the permutations around it cancel in the next clean-up.
"""

from __future__ import annotations

import tvm
from tvm import relax

from ingot.compile.column_slice import clamp, column_slice, slice_bounds
from ingot.compile.graph import Graph, Rewritten, apply_rule, is_one, is_op, same_extents, shape_of
from ingot.compile.ops import attributes, call_op
from ingot.compile.rewrites.clean_up import permutation_of

_SWAP_HEADS = [0, 2, 1, 3]


def fuse_rope(module: tvm.IRModule) -> Rewritten:
    whole = apply_rule(module, _fuse_rope)
    return Rewritten(apply_rule(whole.module, _take_in_rest).module, whole.num_matched)


def _fuse_rope(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if not is_op(value, "relax.add") or len(shape_of(value)) != 4:
        return None
    for straight, turned in (value.args, reversed(value.args)):
        for x, cos in graph.operands(straight, "relax.multiply"):
            for rotated, sin in graph.operands(turned, "relax.multiply"):
                interleaved = _rotation_of(graph, rotated, x)
                if interleaved is not None:
                    return _rope(graph, x, cos, sin, interleaved)
    return None


def _rope(
    graph: Graph, x: relax.Expr, cos: relax.Expr, sin: relax.Expr, interleaved: bool
) -> relax.Expr | None:
    shape, table = shape_of(x), shape_of(cos)
    if len(table) != 4 or not is_one(shape[0]) or not is_one(table[0]):
        return None
    head_major = is_one(table[1])
    if not head_major and not is_one(table[2]):
        return None
    tokens, width = table[2 if head_major else 1], table[3]
    if not same_extents([width], [shape[3]]):
        return None
    cos, sin = (graph.emit(relax.op.reshape(t, [1, tokens, width])) for t in (cos, sin))
    if not head_major:
        return call_op(
            "rope",
            [x, cos, sin],
            interleaved=interleaved,
            rotary_dim=int(width),
        )
    x = graph.emit(relax.op.permute_dims(x, _SWAP_HEADS))
    call = call_op("rope", [x, cos, sin], interleaved=interleaved, rotary_dim=int(width))
    return relax.op.permute_dims(graph.emit(call), _SWAP_HEADS)


def _rotation_of(graph: Graph, rotated: relax.Expr, x: relax.Expr) -> bool | None:
    """`False` if `rotated` is `[-x2, x1]` of `x`'s halves, `True` if of its pairs."""
    reshape = graph.match(rotated, "relax.reshape")
    concat = graph.match(reshape.args[0] if reshape is not None else rotated, "relax.concat")
    if concat is None or not isinstance(concat.args[0], relax.Tuple):
        return None
    fields = concat.args[0].fields
    rank = len(shape_of(fields[0]))
    if len(fields) != 2 or int(concat.attrs.axis) % rank != rank - 1:
        return None
    parts = [_without_reshape(graph, field) if reshape is not None else field for field in fields]
    negative = graph.match(parts[0], "relax.negative")
    if negative is None:
        return None
    second, first = _part(graph, negative.args[0], x), _part(graph, parts[1], x)
    width = int(shape_of(x)[-1])
    if reshape is None and first == (0, width // 2, 1) and second == (width // 2, width, 1):
        return False
    if reshape is not None and first == (0, width, 2) and second == (1, width, 2):
        return True
    return None


def _without_reshape(graph: Graph, expr: relax.Expr) -> relax.Expr:
    reshape = graph.match(expr, "relax.reshape")
    return reshape.args[0] if reshape is not None else expr


def _part(graph: Graph, expr: relax.Expr, x: relax.Expr) -> tuple[int, int, int] | None:
    call = graph.match(expr, "relax.strided_slice")
    if call is None or not call.args[0].same_as(x):
        return None
    bounds = slice_bounds(call)
    if bounds is None:
        return None
    width = int(shape_of(x)[-1])
    return clamp(bounds[0], width), clamp(bounds[1], width), bounds[2]


def _take_in_rest(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    """Partial rotary: a rope of some columns concatenated with the others is one operator."""
    if not is_op(value, "relax.concat") or not isinstance(value.args[0], relax.Tuple):
        return None
    fields = value.args[0].fields
    rank = len(shape_of(value))
    if len(fields) != 2 or rank != 4 or int(value.attrs.axis) % rank != rank - 1:
        return None
    rope, swapped = _rope_behind(graph, fields[0])
    if rope is None:
        return None
    x, cos, sin = rope.args
    inner = graph.match(x, "relax.permute_dims")
    first = column_slice(graph, inner.args[0] if swapped and inner is not None else x)
    rest = column_slice(graph, fields[1])
    if first is None or rest is None or not first.matrix.same_as(rest.matrix):
        return None
    whole = first.matrix
    if (first.begin, rest.begin, rest.end) != (0, first.end, int(shape_of(whole)[-1])):
        return None
    if not swapped:
        return call_op("rope", [whole, cos, sin], **attributes(rope))
    whole = graph.emit(relax.op.permute_dims(whole, _SWAP_HEADS))
    result = graph.emit(call_op("rope", [whole, cos, sin], **attributes(rope)))
    return relax.op.permute_dims(result, _SWAP_HEADS)


def _rope_behind(graph: Graph, expr: relax.Expr) -> tuple[relax.Call | None, bool]:
    """The rope that made `expr`, and whether its heads were swapped back since."""
    permutation = graph.match(expr, "relax.permute_dims")
    if permutation is not None and permutation_of(permutation) == _SWAP_HEADS:
        return graph.match(permutation.args[0], "ingot.rope"), True
    return graph.match(expr, "ingot.rope"), False
