"""Expressions of weights in the graph to arrays, one at a time, as the artifact will store them.

Rewrites write what they need of a weight into the graph itself (`concat` of three projections, the
transposition of a Conv1D, Gemma's `1 + w`). The graph is compiled without weights; afterwards each
expression is evaluated once, in float32, on tensors read from the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from ingot.compile.column_slice import clamp
from ingot.compile.graph import Graph, operands_of, shape_of
from ingot.compile.rewrites.clean_up import permutation_of

Array = NDArray[Any]
Read = Callable[[str], Array]


def _slice(call: relax.Call, x: Array) -> Array:
    axes, begins, ends = ([int(v) for v in arg.fields] for arg in call.args[1:4])
    steps = [int(v) for v in call.args[4].fields] if len(call.args) > 4 else [1] * len(axes)
    index = [slice(None)] * x.ndim
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        extent = x.shape[axis]
        index[axis] = slice(clamp(begin, extent), clamp(end, extent), step)
    return x[tuple(index)]


_EVALUATE: dict[str, Callable[..., Array]] = {
    "relax.concat": lambda call, *xs: np.concatenate(xs, axis=int(call.attrs.axis)),
    "relax.permute_dims": lambda call, x: np.transpose(x, permutation_of(call)),
    "relax.reshape": lambda call, x: x.reshape([int(extent) for extent in shape_of(call)]),
    "relax.strided_slice": _slice,
    "relax.astype": lambda call, x: x.astype(str(call.attrs.dtype)),
    "relax.add": lambda _call, x, y: x + y,
    "relax.subtract": lambda _call, x, y: x - y,
    "relax.multiply": lambda _call, x, y: x * y,
    "relax.divide": lambda _call, x, y: x / y,
    "relax.negative": lambda _call, x: -x,
    "relax.exp": lambda _call, x: np.exp(x),
}


def is_evaluable(graph: Graph, expr: relax.Expr) -> bool:
    """Whether `expr` is made of weights alone by operators that `evaluate` knows."""
    definition = graph.definition(expr)
    if definition is None:
        return expr in graph.weights
    if isinstance(definition, tvm.ir.GenericConst):
        return True
    if not isinstance(definition, relax.Call) or not isinstance(definition.op, tvm.ir.Op):
        return False
    return definition.op.name in _EVALUATE and all(
        is_evaluable(graph, operand) for operand in tensor_operands(definition)
    )


def evaluate(graph: Graph, expr: relax.Expr, read: Read) -> Array:
    """The float32 value of `expr`; `read` gives the tensor of a weight's variable by its name."""
    definition = graph.definition(expr)
    if definition is None:
        assert isinstance(expr, relax.Var)
        return read(expr.name)
    if isinstance(definition, tvm.ir.GenericConst):
        return np.asarray(definition.value.numpy())
    operands = [evaluate(graph, operand, read) for operand in tensor_operands(definition)]
    return _EVALUATE[definition.op.name](definition, *operands)


def tensor_operands(call: relax.Call) -> list[relax.Expr]:
    """The operands that are tensors, not shapes or the numbers of a slice."""
    first = call.args[:1] if call.op.name == "relax.strided_slice" else None
    operands = first if first is not None else operands_of(call)
    return [operand for operand in operands if isinstance(operand.ty, relax.TensorType)]
