"""ATen calls to Relax, where the stock importer of TVM 0.27 has no converter or a wrong one.

Each converter takes the `torch.fx` node and the importer, and returns the Relax expression. Why
each exists is said beside it; delete it when the pinned TVM converts that operator rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from tvm import relax

from ingot.compile.graph import is_op
from ingot.compile.ops import call_op

Converter = Callable[[torch.fx.Node, Any], relax.Expr]


def _operand(importer: Any, value: Any) -> Any:
    return importer.env[value] if isinstance(value, torch.fx.Node) else value


def _operands(node: torch.fx.Node, importer: Any) -> list[Any]:
    return [_operand(importer, value) for value in node.args]


def _dtype(expr: relax.Expr) -> str:
    return str(expr.ty.dtype.dtype)


def _emit(importer: Any, expr: relax.Expr) -> relax.Expr:
    return importer.block_builder.emit(expr)


# --- captured operators ------------------------------------------------------------------------


def _paged_attention(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """`ingot::paged_attention`, head-major in torch, to the token-major operator."""
    names = ("slot", "scale", "causal", "window", "chunk", "softcap", "store")
    q, k, v, sinks, slopes, *values = _operands(node, importer)
    q, k, v = (_emit(importer, relax.op.permute_dims(x, [0, 2, 1, 3])) for x in (q, k, v))
    optional = [x for x in (sinks, slopes) if x is not None]
    call = call_op(
        "paged_attention",
        [q, k, v, *optional],
        has_sinks=sinks is not None,
        has_slopes=slopes is not None,
        **dict(zip(names, values, strict=True)),
    )
    return _emit(importer, call)


def _layer_output(node: torch.fx.Node, importer: Any) -> relax.Expr:
    x, layer = _operands(node, importer)
    return _emit(importer, call_op("layer_output", [x], layer=layer))


# --- matrix products ---------------------------------------------------------------------------


def _linear(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """Kept whole, so that a weight keeps its checkpoint layout `[out, in]`.

    The linear that reads the gathered rows is the head, which schemes store in its own format.
    """
    operands = [operand for operand in _operands(node, importer) if operand is not None]
    made_by = importer.block_builder.lookup_binding(operands[0])
    role = "head" if is_op(made_by, "ingot.gather_rows") else "linear"
    return _emit(importer, call_op("linear", operands, role=role))


def _matmul(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """The stock converter makes the result float32 whatever the operands are."""
    x, y = _operands(node, importer)[:2]
    return _emit(importer, relax.op.matmul(x, y))


def _addmm(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """The stock converter widens the result, as for `_matmul`. Language models use no `alpha` or
    `beta`."""
    assert node.kwargs.get("alpha", 1) == 1 and node.kwargs.get("beta", 1) == 1
    bias, x, y = _operands(node, importer)[:3]
    return _emit(importer, relax.op.add(_emit(importer, relax.op.matmul(x, y)), bias))


# --- norms -------------------------------------------------------------------------------------


def _layer_norm(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """The stock converter needs a weight and a bias."""
    x, axes, *affine = _operands(node, importer)[:4]
    present = [operand for operand in affine if operand is not None]
    if len(present) == 2:
        return importer._layer_norm(node)
    assert len(axes) == 1 and (not present or present[0] is affine[0]), "a bias without a weight"
    eps: Any = node.args[4] if len(node.args) > 4 else 1e-5
    return _emit(importer, call_op("norm", [x, *present], kind="layer", eps=float(eps)))


# --- lookups -----------------------------------------------------------------------------------


def _embedding(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """Kept whole: the table's row format is chosen by the quantization scheme."""
    table, ids = _operands(node, importer)[:2]
    if _dtype(ids) != "int32":
        ids = _emit(importer, relax.op.astype(ids, "int32"))
    return _emit(importer, call_op("embedding", [ids, table]))


def _index(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """`x[:, rows]` is a gather of tokens; constant negative indices are read out of bounds."""
    arguments: Any = node.args
    x, indices = arguments[0], list(arguments[1])
    if len(indices) == 2 and indices[0] is None and _is_rows(indices[1]):
        rows = _operand(importer, indices[1])
        if _dtype(rows) != "int32":
            rows = _emit(importer, relax.op.astype(rows, "int32"))
        return _emit(importer, call_op("gather_rows", [_operand(importer, x), rows]))
    shape = x.meta["val"].shape
    for dimension, index in enumerate(indices):
        value = constant_value(index, importer.ingot_constants)
        if value is not None and value.dtype == torch.int64 and bool((value < 0).any()):
            wrapped = torch.where(value < 0, value + int(shape[dimension]), value)
            importer.env[index] = relax.const(wrapped.numpy())
    return importer._index_tensor(node)


def _is_rows(index: Any) -> bool:
    value = index.meta.get("val") if isinstance(index, torch.fx.Node) else None
    return value is not None and value.ndim == 1 and value.dtype in (torch.int64, torch.int32)


# --- shapes ------------------------------------------------------------------------------------


def _reshape(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """The stock converter compares symbolic shapes with `==` and raises."""
    return importer._emit_torch_reshape(_operand(importer, node.args[0]), _shape(node, importer))


def _shape(node: torch.fx.Node, importer: Any) -> Any:
    return importer.retrieve_args(node)[1]


def _slice(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """`x[..., -n:]` with symbolic `n` loses its shape; it occurs here only as the identity."""
    sliced: Any = node.args[0]
    source, result = sliced.meta["val"].shape, node.meta["val"].shape
    if all(statically_known_true(a == b) for a, b in zip(source, result, strict=True)):
        return _operand(importer, sliced)
    return importer._slice(node)


def _cat(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """Empty parts are left out: partial rotary has one where all of a head is rotated."""
    tensors: Any = node.args[0]
    dim: Any = node.args[1] if len(node.args) > 1 else 0
    parts = [_operand(importer, x) for x in tensors if x.meta["val"].shape[dim] != 0]
    return parts[0] if len(parts) == 1 else _emit(importer, relax.op.concat(parts, axis=dim))


def _slice_scatter(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """A range of one axis written over, as a concatenation; the stock converter scatters."""
    x, source, *_ = node.args
    dim, start, end = _scattered_range(node)
    parts = [_operand(importer, source)]
    if start > 0:
        parts.insert(0, _part(x, dim, 0, start, importer))
    if end < (size := node.meta["val"].shape[dim]):
        parts.append(_part(x, dim, end, size, importer))
    return parts[0] if len(parts) == 1 else _emit(importer, relax.op.concat(parts, axis=dim))


def _scattered_range(node: torch.fx.Node) -> tuple[int, int, int]:
    """The axis and the half-open range of it that a `slice_scatter` writes."""
    given: list[Any] = list(node.args[2:])
    defaults: list[Any] = [0, None, None, 1]
    dim, start, end, step = [*given, *defaults[len(given) :]]
    shape = node.meta["val"].shape
    size: Any = shape[dim]
    assert isinstance(size, int) and step == 1, "a range of an axis of fixed size"
    return dim % len(shape), min(start or 0, size), size if end is None else min(end, size)


def _part(x: Any, dim: int, begin: int, end: int, importer: Any) -> relax.Expr:
    """A range of an axis: what was written there, if it was written as a whole just before."""
    scatters = x.target is torch.ops.aten.slice_scatter.default
    if scatters and _scattered_range(x) == (dim, begin, end):
        return _operand(importer, x.args[1])
    sliced = relax.op.strided_slice(_operand(importer, x), [dim], [begin], [end])
    return _emit(importer, sliced)


def _empty(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """The stock converter leaves symbolic sizes as `torch.fx` nodes."""
    dtype = importer._convert_data_type(node.meta["val"].dtype)
    sizes = list(importer.retrieve_args(node)[0])
    return _emit(importer, relax.op.zeros(relax.ShapeExpr(sizes), dtype))


# --- arithmetic --------------------------------------------------------------------------------


def _log(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """The stock converter does not promote integers."""
    x = _operand(importer, node.args[0])
    if "int" in _dtype(x):
        x = _emit(importer, relax.op.astype(x, "float32"))
    return _emit(importer, relax.op.log(x))


def _divide_rounded(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """The stock converter gives a scalar divisor a fixed dtype."""
    x, y = _operands(node, importer)[:2]
    mode = node.kwargs.get("rounding_mode")
    if isinstance(y, int | float):
        y = relax.const(y, _dtype(x))
    if mode == "floor" or (mode == "trunc" and "int" in _dtype(x)):
        return _emit(importer, relax.op.floor_divide(x, y))  # indices here are never negative
    quotient = _emit(importer, relax.op.divide(x, y))
    return _emit(importer, relax.op.trunc(quotient)) if mode == "trunc" else quotient


def _topk(node: torch.fx.Node, importer: Any) -> relax.Expr:
    """The stock converter refuses `sorted=False`, to which a sorted answer is a right one."""
    x, k, axis, largest = (*_operands(node, importer), -1, True)[:4]
    call = relax.op.topk(x, k=k, axis=axis, largest=largest, ret_type="both", dtype="int64")
    return _emit(importer, call)


# --- constants ---------------------------------------------------------------------------------


def constant_value(node: Any, constants: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """Evaluate a node that depends on constants alone; `None` if it depends on an input."""
    if not isinstance(node, torch.fx.Node):
        return node if isinstance(node, torch.Tensor) else None
    if node.op == "placeholder":
        return constants.get(node.name)
    if node.op != "call_function":
        return None
    args = []
    for arg in node.args:
        value = constant_value(arg, constants) if isinstance(arg, torch.fx.Node) else arg
        if value is None and isinstance(arg, torch.fx.Node):
            return None
        args.append(value)
    evaluate: Any = node.target
    constant: torch.Tensor | None = evaluate(*args, **node.kwargs)
    return constant


def _constant(node: torch.fx.Node, importer: Any) -> relax.Expr:
    value = constant_value(node, importer.ingot_constants)
    assert value is not None, f"{node} depends on an input"
    return relax.const(value.numpy())


CONVERTERS: dict[str, Converter] = {
    "paged_attention.default": _paged_attention,
    "layer_output.default": _layer_output,
    "linear.default": _linear,
    "mm.default": _matmul,
    "bmm.default": _matmul,
    "matmul.default": _matmul,
    "addmm.default": _addmm,
    "layer_norm.default": _layer_norm,
    "embedding.default": _embedding,
    "index.Tensor": _index,
    "view.default": _reshape,
    "reshape.default": _reshape,
    "slice.Tensor": _slice,
    "cat.default": _cat,
    "slice_scatter.default": _slice_scatter,
    "empty.memory_format": _empty,
    "log.default": _log,
    "div.Tensor_mode": _divide_rounded,
    "topk.default": _topk,
    "erfinv.default": _constant,
}
