"""The `ingot.*` operators but attention, each to the calls of its kernels.

A function here takes the emitter, the operator's variable in the graph as it was, and its call with
operands that are lowered already. It gives what stands for the result, in the operator's own shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tvm import relax

from ingot.compile.graph import is_op, shape_of
from ingot.compile.kernels import matmul
from ingot.compile.kernels.activation.spec import ActivationSpec
from ingot.compile.kernels.embedding import EmbeddingSpec
from ingot.compile.kernels.gather_rows.spec import GatherRowsSpec
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.lowering.emitter import Emitter, View
from ingot.compile.ops import attributes

Lower = Callable[[Emitter, relax.Var, relax.Call], relax.Expr]


def like(result: relax.Expr, call: relax.Call) -> relax.Expr:
    """A kernel's `[n, width]` in the shape of the operator's result."""
    return relax.op.reshape(result, shape_of(call))


def linear_spec(
    emitter: Emitter, weight: relax.Expr, role: str, *, has_bias: bool
) -> matmul.LinearSpec:
    """The linear layer of a weight `[out, in]` in the format that its role and names ask for."""
    out_features, in_features = (int(extent) for extent in shape_of(weight))
    return matmul.LinearSpec(
        out_features=out_features,
        in_features=in_features,
        format=emitter.formats.format_of(emitter.weights.names_of(weight), role),
        activations=emitter.formats.scheme.activations,
        has_bias=has_bias,
    )


def call_linear(
    emitter: Emitter,
    spec: matmul.LinearSpec,
    x: relax.Expr,
    weight: relax.Expr,
    bias: list[relax.Expr],
    norm: list[relax.Expr],
) -> relax.Expr:
    """`norm` holds the squares of x and the norm's weight, where the spec norms x."""
    packed = emitter.weights.matrix(weight, spec)
    operands = [emitter.flat(x), *norm, *packed, *map(emitter.plain, bias)]
    return emitter.call("matmul", spec, operands, [shape_of(operands[0])[0], spec.width])


def lower_linear(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    """A linear, gated where it has a `kind`, normed before where it has an `eps`."""
    x, *operands = call.args
    attrs, norm = attributes(call), []
    if "eps" in attrs:
        squares, norm_weight, *operands = operands
        norm = [emitter.flat(squares), emitter.plain(norm_weight)]
    weight, *bias = operands
    spec = linear_spec(emitter, weight, attrs.get("role", "linear"), has_bias=bool(bias))
    spec = replace(spec, norm_eps=attrs.get("eps", 0.0))
    if "kind" not in attrs:
        return like(call_linear(emitter, spec, x, weight, bias, norm), call)
    kind, width = attrs["kind"], int(shape_of(call)[-1])
    if matmul.can_gate(spec, emitter.target):
        weight, *bias = (gates_beside_ups(emitter, expr) for expr in (weight, *bias))
        return like(call_linear(emitter, replace(spec, gate=kind), x, weight, bias, norm), call)
    gate_up = call_linear(emitter, spec, x, weight, bias, norm)
    apart = ActivationSpec(kind, width, gated="gate_up")
    out = emitter.call("activation", apart, [gate_up], [shape_of(gate_up)[0], width])
    return like(out, call)


def lower_residual_linear(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    """One kernel, two results: the sum, and its squares by runs."""
    x, weight, *bias, residual = call.args
    role = attributes(call).get("role", "linear")
    spec = replace(linear_spec(emitter, weight, role, has_bias=bool(bias)), adds=True)
    packed = emitter.weights.matrix(weight, spec)
    operands = [emitter.flat(x), *packed, *map(emitter.plain, bias), emitter.flat(residual)]
    rows = shape_of(operands[0])[0]
    outs = [relax.TensorType([rows, n], "float32") for n in (spec.width, spec.num_squares)]
    emit = emitter.graph.emit
    both = emit(relax.call_tir(emitter.kernel("matmul", spec), operands, outs))
    parts = [emit(relax.TupleGetItem(both, i)) for i in range(2)]
    return relax.Tuple([emit(relax.op.reshape(part, [1, *shape_of(part)])) for part in parts])


def gates_beside_ups(emitter: Emitter, expr: relax.Expr) -> relax.Expr:
    """The weight `[gates then ups, ...]` with a run of gates before each run of ups."""
    rows, *inner = (int(extent) for extent in shape_of(expr))
    run = matmul.gate_run(emitter.target)
    halves = emitter.define_weight(relax.op.reshape(expr, [2, rows // 2 // run, run, *inner]))
    axes = [1, 0, *range(2, 3 + len(inner))]
    turns = emitter.define_weight(relax.op.permute_dims(halves, axes))
    return emitter.define_weight(relax.op.reshape(turns, [rows, *inner]))


def lower_embedding(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    ids, table = call.args
    is_tied = any(is_op(user, "ingot.linear") for _, user in emitter.graph.uses(table))
    matrix = linear_spec(emitter, table, "head" if is_tied else "embedding", has_bias=False)
    spec = EmbeddingSpec(
        vocab_size=matrix.out_features,
        hidden_size=matrix.in_features,
        format=matrix.format,
        activations=matrix.activations,
    )
    flat = emitter.graph.emit(relax.op.reshape(ids, [shape_of(ids)[-1]]))
    operands = [flat, *emitter.weights.matrix(table, matrix)]
    result = emitter.call("embedding", spec, operands, [shape_of(flat)[0], spec.hidden_size])
    return like(result, call)


def lower_gather_rows(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    x, rows = emitter.flat(call.args[0]), call.args[1]
    width = int(shape_of(x)[1])
    spec = GatherRowsSpec(width)
    return like(emitter.call("gather_rows", spec, [x, rows], [shape_of(rows)[0], width]), call)


def lower_norm(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    x, affine = call.args[0], call.args[1:]
    view = emitter.view(x)
    spec = norm_spec(call, x, affine, view=view)
    operands = [view.matrix, *map(emitter.plain, affine)]
    width = spec.width * spec.rows_per_token
    return like(emitter.call("norm", spec, operands, [shape_of(x)[1], width]), call)


def lower_residual_norm(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    """One kernel, two results: the sum and its norm."""
    x, residual, *affine = call.args
    spec = norm_spec(call, x, affine, residual=True)
    operands = [emitter.flat(x), emitter.flat(residual), *map(emitter.plain, affine)]
    out = relax.TensorType([shape_of(x)[1], spec.width], "float32")
    emit = emitter.graph.emit
    both = emit(relax.call_tir(emitter.kernel("norm", spec), operands, [out, out]))
    parts = [emit(relax.TupleGetItem(both, i)) for i in range(2)]
    return relax.Tuple([emit(relax.op.reshape(part, shape_of(x))) for part in parts])


def norm_spec(
    call: relax.Call,
    x: relax.Expr,
    affine: list[relax.Expr],
    *,
    view: View | None = None,
    residual: bool = False,
) -> NormSpec:
    """A norm over the last axis of `x [1, n, ..., width]`; the axes between are rows of a token."""
    rows = 1
    for extent in shape_of(x)[2:-1]:
        rows *= int(extent)
    return NormSpec(
        **attributes(call),
        width=int(shape_of(x)[-1]),
        has_weight=len(affine) > 0,
        has_bias=len(affine) > 1,
        residual=residual,
        rows_per_token=rows,
        weight_per_row=len(affine) > 0 and len(shape_of(affine[0])) > 1,
        row_width=view.row_width if view else 0,
        column_offset=view.column_offset if view else 0,
    )


def lower_rope(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    x, cos, sin = call.args
    view = emitter.view(x)
    spec = rope_spec(x, cos, view, attributes(call))
    operands = [view.matrix, emitter.flat(cos), emitter.flat(sin)]
    width = spec.num_heads * spec.head_dim
    return like(emitter.call("rope", spec, operands, [shape_of(x)[1], width]), call)


def rope_spec(x: relax.Expr, cos: relax.Expr, view: View, attrs: dict[str, Any]) -> RopeSpec:
    """The rotation of `x [1, n, heads, head_dim]`, which lies in `view`."""
    heads, head_dim = (int(extent) for extent in shape_of(x)[2:])
    return RopeSpec(
        num_heads=heads,
        head_dim=head_dim,
        cos_width=int(shape_of(cos)[-1]),
        row_width=view.row_width,
        column_offset=view.column_offset,
        **attrs,
    )


def lower_activation(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    x = emitter.flat(call.args[0])
    spec = ActivationSpec(width=int(shape_of(x)[1]), **attributes(call))
    return like(emitter.call("activation", spec, [x], shape_of(x)), call)


def lower_gated_activation(emitter: Emitter, _var: relax.Var, call: relax.Call) -> relax.Expr:
    operands = [emitter.flat(operand) for operand in call.args]
    tokens, width = shape_of(operands[0])[0], int(shape_of(call)[-1])
    spec = ActivationSpec(
        width=width, gated="gate_up" if len(operands) == 1 else "separate", **attributes(call)
    )
    return like(emitter.call("activation", spec, operands, [tokens, width]), call)


OPERATORS: dict[str, Lower] = {
    "ingot.activation": lower_activation,
    "ingot.embedding": lower_embedding,
    "ingot.gated_activation": lower_gated_activation,
    "ingot.gated_linear": lower_linear,
    "ingot.gather_rows": lower_gather_rows,
    "ingot.linear": lower_linear,
    "ingot.norm": lower_norm,
    "ingot.norm_linear": lower_linear,
    "ingot.residual_linear": lower_residual_linear,
    "ingot.residual_norm": lower_residual_norm,
    "ingot.rope": lower_rope,
}
