"""The `ingot.*` Relax operators: what a captured model means before kernels are chosen.

Every operator is token-major: activations are `[1, n, width]` or, split into heads, `[1, n, heads,
head_dim]`, with `n` the flattened tokens of all sequences. Attributes are plain Python values, read
back by `attributes(call)`. The kernels that carry the operators out are picked in `lowering/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import relax

from ingot.compile.kernels.matmul.spec import SQUARES_RUN

Infer = Callable[[relax.Call], Any]


def _type(expr: relax.Expr) -> Any:
    return expr.ty


def _like_first(call: relax.Call) -> Any:
    return _type(call.args[0])


def _replace_last(call: relax.Call, width: int) -> Any:
    first = _type(call.args[0])
    return relax.TensorType([*first.shape.values[:-1], width], first.dtype)


def _linear(call: relax.Call) -> Any:
    return _replace_last(call, _type(call.args[1]).shape.values[0])


def _embedding(call: relax.Call) -> Any:
    ids, table = (_type(arg) for arg in call.args[:2])
    return relax.TensorType([*ids.shape.values, table.shape.values[1]], table.dtype)


def _gather_rows(call: relax.Call) -> Any:
    x, rows = (_type(arg) for arg in call.args[:2])
    return relax.TensorType([x.shape.values[0], rows.shape.values[0], *x.shape.values[2:]], x.dtype)


def _paged_attention(call: relax.Call) -> Any:
    q, _, v = (_type(arg) for arg in call.args[:3])
    return relax.TensorType([*q.shape.values[:-1], v.shape.values[-1]], q.dtype)


def _residual_norm(call: relax.Call) -> Any:
    return relax.TupleType([_type(call.args[0]), _type(call.args[0])])


def _residual_linear(call: relax.Call) -> Any:
    """The sum, and the squares of each run of it, as many as `SQUARES_RUN`."""
    out = _linear(call)
    runs = -(-int(out.shape.values[-1]) // SQUARES_RUN)
    return relax.TupleType([out, relax.TensorType([*out.shape.values[:-1], runs], out.dtype)])


def _norm_linear(call: relax.Call) -> Any:
    features = _type(call.args[3]).shape.values[0]
    return _replace_last(call, features // 2 if "kind" in attributes(call) else features)


def _gated_linear(call: relax.Call) -> Any:
    return _replace_last(call, _type(call.args[1]).shape.values[0] // 2)


def _gated_activation(call: relax.Call) -> Any:
    if len(call.args) == 2:
        return _type(call.args[0])
    return _replace_last(call, _type(call.args[0]).shape.values[-1] // 2)


# name -> (what its result is, the names of its operands)
_OPERATORS: dict[str, tuple[Infer, str]] = {
    "linear": (_linear, "x weight [bias]"),
    "gated_linear": (_gated_linear, "x gate_up_weight [bias]"),
    "residual_linear": (_residual_linear, "x weight [bias] residual"),
    "norm_by_squares": (_like_first, "x squares norm_weight"),
    "norm_linear": (_norm_linear, "x squares norm_weight weight [bias]"),
    "embedding": (_embedding, "ids table"),
    "gather_rows": (_gather_rows, "x rows"),
    "paged_attention": (_paged_attention, "q k v [sinks] [slopes] [cos sin]"),
    "layer_output": (_like_first, "x"),
    "norm": (_like_first, "x [weight] [bias]"),
    "residual_norm": (_residual_norm, "x residual [weight] [bias]"),
    "rope": (_like_first, "x cos sin"),
    "activation": (_like_first, "x"),
    "gated_activation": (_gated_activation, "gate_up | gate up"),
}


def _register(name: str, infer: Infer, operands: str) -> tvm.ir.Op:
    full_name = f"ingot.{name}"
    tvm.ir._ffi_api.RegisterOp(full_name, operands)
    tvm.ir.register_op_attr(full_name, "FInferType", lambda call, _builder: infer(call))
    tvm.ir.register_op_attr(full_name, "FPurity", True)
    tvm.ir.register_op_attr(full_name, "TScriptPrinterName", full_name)
    return tvm.ir.Op.get(full_name)


OPERATORS: dict[str, tvm.ir.Op] = {
    name: _register(name, infer, operands) for name, (infer, operands) in _OPERATORS.items()
}


def call_op(name: str, operands: Sequence[relax.Expr], **attributes: Any) -> relax.Call:
    """A call of `ingot.<name>`; emit it through a block builder to give it its type."""
    attrs = tvm.ir.make_node("ir.DictAttrs", **attributes) if attributes else None
    return relax.Call(OPERATORS[name], list(operands), attrs)


def attributes(call: relax.Call) -> dict[str, Any]:
    """The attributes of a call of an `ingot.*` operator as Python values."""
    return dict(call.attrs) if call.attrs is not None else {}
