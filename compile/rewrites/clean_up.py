"""Shape and dtype operators to as few as mean the same; weight expressions to the front.

Runs first, and again after rewrites that add shape operators. Afterwards there is no `expand_dims`,
`squeeze` or `flatten` (all are `reshape`), no `split` (its parts are slices), no chain of two
reshapes or two permutations, and every expression of weights alone stands before the first that
needs the tokens.
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm_ffi import structural_equal

from ingot.compile.graph import (
    GRAPH,
    Graph,
    Rewritten,
    apply_rule,
    is_one,
    same_shape,
    scalar_of,
    shape_of,
)

_RESHAPES = ("relax.expand_dims", "relax.squeeze", "relax.flatten")
_NEUTRAL = {"relax.multiply": 1.0, "relax.divide": 1.0, "relax.add": 0.0, "relax.subtract": 0.0}
_WIDER = {("int64", "int32"), ("float32", "float16"), ("float32", "bfloat16")}
"""(wider, narrower): a cast to the wider and back changes nothing."""
_COMMUTATIVE = ("relax.multiply", "relax.add")


def clean_up(module: tvm.IRModule) -> Rewritten:
    rewritten = apply_rule(module, _simplify, weights_first=True)
    module = relax.transform.EliminateCommonSubexpr()(rewritten.module)
    module = relax.transform.FoldConstant()(module)
    module = relax.transform.DeadCodeElimination([GRAPH])(module)
    return Rewritten(module, rewritten.num_matched)


def _simplify(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if isinstance(value, relax.TupleGetItem):
        return _simplify_split(graph, value)
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return None
    name = value.op.name
    if name in _RESHAPES:
        shape = value.ty.shape if value.ty is not None else None
        return _reshape(graph, value.args[0], shape) if shape is not None else None
    if name == "relax.reshape":
        return _simplify_reshape(graph, value)
    if name == "relax.permute_dims":
        return _simplify_permutation(graph, value)
    if name == "relax.astype":
        return _simplify_cast(graph, value)
    if name == "relax.strided_slice":
        return value.args[0] if value.ty and same_shape(value, value.args[0]) else None
    if name == "relax.concat" and isinstance(value.args[0], relax.Tuple):
        fields = value.args[0].fields
        return fields[0] if len(fields) == 1 else None
    if name in _NEUTRAL:
        return _simplify_neutral(value, name)
    return None


def _dtype(expr: relax.Expr) -> str:
    return str(expr.ty.dtype.dtype)


def _simplify_cast(graph: Graph, value: relax.Call) -> relax.Expr | None:
    x, dtype = value.args[0], str(value.attrs.dtype)
    if _dtype(x) == dtype:
        return x
    reshape = graph.match(x, "relax.reshape")
    source = reshape.args[0] if reshape is not None else x
    widened = graph.match(source, "relax.astype")
    if widened is None or _dtype(widened.args[0]) != dtype or (_dtype(source), dtype) not in _WIDER:
        return None
    original = widened.args[0]
    return original if reshape is None else relax.op.reshape(original, reshape.args[1])


def _simplify_neutral(value: relax.Call, name: str) -> relax.Expr | None:
    x, y = value.args
    if scalar_of(y) == _NEUTRAL[name] and _keeps_type(value, x):
        return x
    if name in _COMMUTATIVE and scalar_of(x) == _NEUTRAL[name] and _keeps_type(value, y):
        return y
    return None


def _keeps_type(value: relax.Call, operand: relax.Expr) -> bool:
    return value.ty is not None and structural_equal(value.ty, operand.ty)


def _reshape(graph: Graph, x: relax.Expr, shape: relax.ShapeExpr) -> relax.Expr | None:
    inner = graph.match(x, "relax.reshape")
    source = inner.args[0] if inner is not None else x
    if structural_equal(source.ty.shape, shape):
        return source
    return relax.op.reshape(source, shape)


def _simplify_reshape(graph: Graph, value: relax.Call) -> relax.Expr | None:
    x, shape = value.args
    if not isinstance(shape, relax.ShapeExpr):
        return None
    if structural_equal(x.ty.shape, shape):
        return x
    return _reshape(graph, x, shape) if graph.match(x, "relax.reshape") is not None else None


def permutation_of(call: relax.Call) -> list[int]:
    rank = len(shape_of(call.args[0]))
    if call.attrs.axes is None:
        return list(reversed(range(rank)))
    return [int(axis) % rank for axis in call.attrs.axes]


def _simplify_permutation(graph: Graph, value: relax.Call) -> relax.Expr | None:
    axes = permutation_of(value)
    x = value.args[0]
    if axes == sorted(axes):
        return x
    inner = graph.match(x, "relax.permute_dims")
    if inner is not None:
        first = permutation_of(inner)
        composed = [first[axis] for axis in axes]
        if composed == sorted(composed):
            return inner.args[0]
        return relax.op.permute_dims(inner.args[0], composed)
    shape = shape_of(x)
    moved = [axis for axis in axes if not is_one(shape[axis])]
    if moved == sorted(moved):  # only axes of length one move: nothing moves in memory
        return relax.op.reshape(x, [shape[axis] for axis in axes])
    return None


def _simplify_split(graph: Graph, item: relax.TupleGetItem) -> relax.Expr | None:
    split = graph.match(item.tuple_value, "relax.split")
    if split is None:
        return None
    x, axis = split.args[0], int(split.attrs.axis)
    extent = shape_of(x)[axis]
    if not isinstance(extent, tvm.tirx.IntImm):
        return None
    sections = split.attrs.indices_or_sections
    if isinstance(sections, tvm.tirx.IntImm | int):
        part = -(-int(extent) // int(sections))
        bounds = [*range(0, int(extent), part), int(extent)]
    else:
        bounds = [0, *(int(section) for section in sections), int(extent)]
    begin, end = bounds[item.index], bounds[item.index + 1]
    return relax.op.strided_slice(x, [axis % len(shape_of(x))], [begin], [end], [1])
