"""Runs a Relax function of core and `ingot.*` operators in NumPy, in float64: what a graph means.

Norms, rope and activations are the kernels' references, so that a rewrite into them is compared
with what the kernels are tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, sym, tirx

from ingot.compile.graph import bindings_of, shape_of
from ingot.compile.kernels.activation.reference import reference as activation_reference
from ingot.compile.kernels.matmul.spec import SQUARES_RUN
from ingot.compile.kernels.norm.reference import reference as norm_reference
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.rope.reference import reference as rope_reference
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.ops import attributes

Array = np.ndarray
_erf = np.vectorize(math.erf, otypes=[np.float64])


class Interpreter:
    """One call of a function. Symbolic extents are bound by the shapes of the arguments."""

    def __init__(self, function: relax.Function, arguments: Sequence[Array]) -> None:
        self._function = function
        self._values: dict[relax.Var, Any] = {}
        self._extents = sym.Analyzer()
        for parameter, array in zip(function.params, arguments, strict=True):
            for extent, size in zip(shape_of(parameter), array.shape, strict=True):
                if isinstance(extent, tirx.Var):
                    self._extents.bind(extent, tirx.IntImm("int64", size))
            wide = array.astype(np.float64) if array.dtype.kind == "f" else array
            self._values[parameter] = wide

    def run(self) -> Any:
        for binding in bindings_of(self._function):
            self._values[binding.var] = self._value(binding.value)
        return self._value(self._function.body.body)

    def shape(self, extents: Sequence[Any]) -> list[int]:
        return [int(self._extents.simplify(extent)) for extent in extents]

    def _value(self, expr: relax.Expr) -> Any:
        if isinstance(expr, relax.Var):
            return self._values[expr]
        if isinstance(expr, tvm.ir.GenericConst):
            constant = np.asarray(expr.value.numpy())
            return constant.astype(np.float64) if constant.dtype.kind == "f" else constant
        if isinstance(expr, relax.Tuple):
            return tuple(self._value(field) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self._value(expr.tuple_value)[expr.index]
        assert isinstance(expr, relax.Call), expr
        operands = []
        for arg in expr.args:
            if isinstance(arg, relax.Tuple) and not isinstance(arg.fields[0].ty, relax.TensorType):
                continue  # the numbers of a slice
            if not isinstance(arg, relax.ShapeExpr):
                operands.append(self._value(arg))
        prefix, _, name = expr.op.name.rpartition(".")
        if prefix == "ingot":
            return _INGOT[name](expr, *operands)
        if expr.op.name in _SHAPED:
            return _SHAPED[expr.op.name](operands[0], self.shape(shape_of(expr)))
        return _CORE[expr.op.name](expr, *operands)


def _slice(call: relax.Call, x: Array, *_: Any) -> Array:
    axes, begins, ends = ([int(v) for v in arg.fields] for arg in call.args[1:4])
    steps = [int(v) for v in call.args[4].fields] if len(call.args) > 4 else [1] * len(axes)
    index = [slice(None)] * x.ndim
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        index[axis] = slice(begin, end, step)
    return x[tuple(index)]


def _split(call: relax.Call, x: Array) -> tuple[Array, ...]:
    sections = call.attrs.indices_or_sections
    parts = int(sections) if isinstance(sections, tirx.IntImm | int) else [int(s) for s in sections]
    return tuple(np.array_split(x, parts, axis=int(call.attrs.axis)))


def _layer_norm(call: relax.Call, x: Array, weight: Array, bias: Array) -> Array:
    centered = x - x.mean(-1, keepdims=True)
    variance = (centered**2).mean(-1, keepdims=True)
    return centered / np.sqrt(variance + float(call.attrs.epsilon)) * weight + bias


def _rms_norm(call: relax.Call, x: Array, weight: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + float(call.attrs.epsilon)) * weight


_SHAPED: dict[str, Callable[[Array, list[int]], Array]] = {
    "relax.reshape": np.reshape,
    "relax.expand_dims": np.reshape,
    "relax.squeeze": np.reshape,
    "relax.flatten": np.reshape,
    "relax.broadcast_to": np.broadcast_to,
}

_CORE: dict[str, Callable[..., Any]] = {
    "relax.add": lambda _, x, y: x + y,
    "relax.subtract": lambda _, x, y: x - y,
    "relax.multiply": lambda _, x, y: x * y,
    "relax.divide": lambda _, x, y: x / y,
    "relax.power": lambda _, x, y: x**y,
    "relax.matmul": lambda _, x, y: x @ y,
    "relax.negative": lambda _, x: -x,
    "relax.square": lambda _, x: x * x,
    "relax.sqrt": lambda _, x: np.sqrt(x),
    "relax.rsqrt": lambda _, x: 1 / np.sqrt(x),
    "relax.exp": lambda _, x: np.exp(x),
    "relax.cos": lambda _, x: np.cos(x),
    "relax.sin": lambda _, x: np.sin(x),
    "relax.tanh": lambda _, x: np.tanh(x),
    "relax.erf": lambda _, x: _erf(x),
    "relax.sigmoid": lambda _, x: 1 / (1 + np.exp(-x)),
    "relax.astype": lambda call, x: x.astype(_wide(str(call.attrs.dtype))),
    "relax.mean": lambda call, x: x.mean(
        tuple(int(a) for a in call.attrs.axis), keepdims=bool(call.attrs.keepdims)
    ),
    "relax.permute_dims": lambda call, x: np.transpose(
        x, None if call.attrs.axes is None else [int(a) for a in call.attrs.axes]
    ),
    "relax.concat": lambda call, xs: np.concatenate(xs, int(call.attrs.axis)),
    "relax.strided_slice": _slice,
    "relax.split": _split,
    "relax.tile": lambda call, x: np.tile(x, [int(r) for r in call.attrs.repeats]),
    "relax.gather_elements": lambda call, x, i: np.take_along_axis(x, i, int(call.attrs.axis)),
    "relax.nn.silu": lambda _, x: activation_reference("silu", x),
    "relax.nn.gelu": lambda _, x: activation_reference("gelu", x),
    "relax.nn.gelu_tanh": lambda _, x: activation_reference("gelu_tanh", x),
    "relax.nn.relu": lambda _, x: activation_reference("relu", x),
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.rms_norm": _rms_norm,
}


def _wide(dtype: str) -> str:
    return "float64" if dtype.startswith("float") else dtype


# --- ingot.* -------------------------------------------------------------------------------------


def _norm(call: relax.Call, x: Array, *affine: Array, residual: Array | None = None) -> Any:
    width = x.shape[-1]
    rows = math.prod(x.shape[2:-1])
    spec = NormSpec(
        **attributes(call),
        width=width,
        has_weight=len(affine) > 0,
        has_bias=len(affine) > 1,
        residual=residual is not None,
        rows_per_token=rows,
    )
    flat = x.reshape(x.shape[1], rows * width)
    rest = None if residual is None else residual.reshape(flat.shape)
    total, normed = norm_reference(spec, flat, rest, *affine)
    return total.reshape(x.shape), normed.reshape(x.shape)


def _rope(attrs: Mapping[str, Any], x: Array, cos: Array, sin: Array) -> Array:
    _, tokens, heads, head_dim = x.shape
    spec = RopeSpec(num_heads=heads, head_dim=head_dim, cos_width=cos.shape[-1], **attrs)
    out = rope_reference(spec, x.reshape(tokens, heads * head_dim), cos[0], sin[0])
    return out.reshape(x.shape)


def _gated(call: relax.Call, *operands: Array) -> Array:
    gate, up = operands if len(operands) == 2 else np.split(operands[0], 2, axis=-1)
    return activation_reference(attributes(call)["kind"], gate, up)


def _paged_attention(call: relax.Call, q: Array, k: Array, v: Array, *tables: Array) -> Array:
    """One sequence from its first token on; what rewrites never touch is not modelled."""
    attrs = attributes(call)
    if "rope" in attrs:
        k = _rope(attrs["rope"], k, *tables)
    assert attrs["causal"] and not attrs["window"] and not attrs["softcap"] and attrs["store"]
    group = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, group, axis=2), np.repeat(v, group, axis=2)
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) * attrs["scale"]
    tokens = q.shape[1]
    scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", weights, v)


def _residual_linear(_call: relax.Call, x: Array, weight: Array, *rest: Array) -> Any:
    *bias, residual = rest
    total = x @ weight.T + sum(bias) + residual
    *rows, width = total.shape
    runs = np.zeros((*rows, -(-width // SQUARES_RUN) * SQUARES_RUN))
    runs[..., :width] = total
    return total, (runs.reshape(*rows, -1, SQUARES_RUN) ** 2).sum(-1)


def _norm_linear(
    call: relax.Call, x: Array, squares: Array, norm_weight: Array, weight: Array, bias: Any = 0.0
) -> Any:
    mean = squares.sum(-1, keepdims=True) / x.shape[-1]
    normed = x / np.sqrt(mean + attributes(call)["eps"]) * norm_weight
    out = normed @ weight.T + bias
    return _gated(call, out) if "kind" in attributes(call) else out


_INGOT: dict[str, Callable[..., Any]] = {
    "linear": lambda _, x, weight, bias=0.0: x @ weight.T + bias,
    "embedding": lambda _, ids, table: table[ids],
    "gather_rows": lambda _, x, rows: x[:, rows],
    "layer_output": lambda _, x: x,
    "norm": lambda call, x, *affine: _norm(call, x, *affine)[1],
    "residual_norm": lambda call, x, residual, *affine: _norm(call, x, *affine, residual=residual),
    "residual_linear": _residual_linear,
    "norm_linear": _norm_linear,
    "rope": lambda call, *operands: _rope(attributes(call), *operands),
    "activation": lambda call, x: activation_reference(attributes(call)["kind"], x),
    "gated_activation": _gated,
    "gated_linear": lambda call, x, weight, bias=0.0: _gated(call, x @ weight.T + bias),
    "paged_attention": _paged_attention,
}
