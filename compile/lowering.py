"""`ingot.*` operators to calls of kernels, weights to the tensors that the artifact stores.

The graph function becomes the step of the contract: flat int32 inputs, one tuple of page pools, one
tuple of stored weights. Operators without a kernel of ours stay core Relax and are legalized later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import relax

from ingot.compile.fast_inspect import fast_inspect
from ingot.compile.graph import GRAPH, Graph, is_one, is_op, operands_of, shape_of
from ingot.compile.kernels import build_kernel, embedding, matmul
from ingot.compile.kernels.activation import cpu as activation
from ingot.compile.kernels.gather_rows import cpu as gather_rows
from ingot.compile.kernels.kv_write import cpu as kv_write
from ingot.compile.kernels.norm import cpu as norm
from ingot.compile.kernels.paged_attention import cpu as attention
from ingot.compile.kernels.rope import cpu as rotary
from ingot.compile.ops import attributes
from ingot.compile.step_inputs import StepInputs, create_step_inputs
from ingot.compile.storage import FormatRules, WeightTable
from ingot.compile.views import column_slice
from ingot.compile.weight_expressions import is_evaluable
from ingot.targets import Target

POOL_DTYPES = {"float32": "float32", "bfloat16": "uint16", "float16": "float16"}
"""KV dtype -> dtype of the pools' elements; bfloat16 is kept as its bits."""


@dataclass(frozen=True, slots=True)
class LoweredModel:
    """A module whose functions `step` and `trace` call kernels, and the weights they take."""

    module: tvm.IRModule
    weights: WeightTable


@dataclass(frozen=True, slots=True)
class View:
    """A matrix `[n, row_width]` and the first of the columns that are meant."""

    matrix: relax.Expr
    row_width: int
    column_offset: int


class Lowering:
    """One pass over the graph; each `_lower_<operator>` gives the call of its kernel."""

    def __init__(
        self,
        module: tvm.IRModule,
        *,
        checkpoint_names: dict[str, str],
        kv_slots: tuple[Any, ...],
        target: Target,
        formats: FormatRules,
    ) -> None:
        self._graph = Graph(module[GRAPH], weights_first=True)
        self._target = target
        self._formats = formats
        self._weights = WeightTable(self._graph, checkpoint_names, target)
        self._kernels: dict[Any, relax.GlobalVar] = {}
        ids, _, rows = self._graph.parameters[:3]
        self._inputs = create_step_inputs(shape_of(ids)[1], shape_of(rows)[0])
        self._pools = self._create_pools(kv_slots)
        self._written: dict[int, tuple[relax.Expr, relax.Expr]] = {}

    def run(self) -> LoweredModel:
        for old, new in zip(self._graph.parameters[:3], self._model_inputs(), strict=True):
            self._graph.replace(old, new)
        with fast_inspect():
            function = self._graph.run(self._lower, self._flatten_outputs)
        module = self._graph.builder.get()
        for name in [v.name_hint for v in module.get_global_vars() if v.name_hint == "rewritten"]:
            del module[name]
        module[GRAPH] = self._with_parameters(function)
        return LoweredModel(relax.transform.DeadCodeElimination([GRAPH])(module), self._weights)

    # --- the function's inputs and outputs --------------------------------------------------------

    def _create_pools(self, kv_slots: tuple[Any, ...]) -> list[tuple[relax.Var, relax.Var]]:
        pages, size = tvm.tirx.Var("num_pages", "int64"), self._target.page_size_tokens
        dtype = POOL_DTYPES[self._formats.scheme.kv_dtype]
        return [
            (
                relax.Var(f"k{i}", relax.TensorType([pages, s.kv_heads, s.key_dim, size], dtype)),
                relax.Var(f"v{i}", relax.TensorType([pages, s.kv_heads, size, s.value_dim], dtype)),
            )
            for i, s in enumerate(kv_slots)
        ]

    def _model_inputs(self) -> list[relax.Expr]:
        """The captured model's inputs made of the step's."""
        inputs: StepInputs = self._inputs
        tokens = shape_of(inputs.token_ids)[0]

        def widen(expr: relax.Expr) -> relax.Expr:
            return relax.op.astype(expr, "int64")

        return [
            relax.op.reshape(widen(inputs.token_ids), [1, tokens]),
            relax.op.reshape(widen(inputs.positions), [1, tokens]),
            widen(inputs.logit_rows),
        ]

    def _flatten_outputs(self, result: relax.Expr) -> relax.Expr:
        known = self._graph.definition(result)
        fields = known.fields if isinstance(known, relax.Tuple) else [result]
        return relax.Tuple([self._flat(field) for field in fields])

    def _with_parameters(self, function: relax.Function) -> relax.Function:
        """Replace the parameters by the step's: arrays, then a tuple of pools, then of weights."""
        pools = [pool for pair in self._pools for pool in pair]
        stored = [variable for weight in self._weights for variable in weight.variables]
        bindings, tuples = [], []
        for name, members in (("kv_pools", pools), ("weights", stored)):
            whole = relax.Var(name, relax.TupleType([member.ty for member in members]))
            tuples.append(whole)
            bindings += [
                relax.VarBinding(member, relax.TupleGetItem(whole, i))
                for i, member in enumerate(members)
            ]
        body = relax.SeqExpr(
            [relax.DataflowBlock(bindings), *function.body.blocks], function.body.body
        )
        parameters = [*self._inputs.as_list(), *tuples]
        rebuilt = relax.Function(parameters, body, function.ret_ty, is_pure=True)
        return rebuilt.with_attr("global_symbol", GRAPH)

    # --- operators -----------------------------------------------------------------------------

    def _lower(self, graph: Graph, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
        if is_evaluable(graph, value) and graph.weights_in(value):
            graph.define(var, value)  # made when the weights are written
            return var
        if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op):
            prefix, _, name = value.op.name.partition(".")
            if prefix == "ingot":
                lower: Callable[[relax.Var, relax.Call], relax.Expr]
                lower = getattr(self, f"_lower_{name}")
                return lower(var, value)
        return self._with_stored_weights(value)

    def _with_stored_weights(self, value: relax.Expr) -> relax.Expr | None:
        """A core operator that takes a weight takes it in float32."""
        found = [o for o in operands_of(value) if self._is_stored(o)]
        if not found or not isinstance(value, relax.Call):
            return None

        def stored(expr: relax.Expr) -> relax.Expr:
            if isinstance(expr, relax.Tuple):
                return relax.Tuple([stored(field) for field in expr.fields])
            return self._weights.plain(expr) if self._is_stored(expr) else expr

        return relax.Call(value.op, [stored(arg) for arg in value.args], value.attrs)

    def _is_stored(self, expr: relax.Expr) -> bool:
        return (
            isinstance(expr, relax.Var)
            and is_evaluable(self._graph, expr)
            and bool(self._graph.weights_in(expr))
        )

    def _plain(self, expr: relax.Expr) -> relax.Expr:
        return self._weights.plain(expr) if self._is_stored(expr) else expr

    def _call(self, op: str, spec: Any, operands: list[relax.Expr], shape: list[Any]) -> relax.Expr:
        """Call the kernel of `spec`, which writes one float32 tensor."""
        out = relax.TensorType(shape, "float32")
        return self._graph.emit(relax.call_tir(self._kernel(op, spec), operands, out))

    def _kernel(self, op: str, spec: Any) -> relax.GlobalVar:
        if spec not in self._kernels:
            function = build_kernel(op, spec, self._target)
            name = str(function.attrs["global_symbol"])
            function = function.without_attr("global_symbol").with_attr("op_pattern", 8)  # opaque
            self._kernels[spec] = self._graph.builder.add_func(function, name)
        return self._kernels[spec]

    def _flat(self, expr: relax.Expr) -> relax.Expr:
        """`[1, n, ...]` as `[n, width]`; there may be more leading ones, or none."""
        shape = shape_of(expr)
        first = next(axis for axis, extent in enumerate(shape) if not is_one(extent))
        tokens, *inner = shape[first:]
        width = 1
        for extent in inner:
            width *= int(extent)
        return self._graph.emit(relax.op.reshape(expr, [tokens, width]))

    def _view(self, expr: relax.Expr) -> View:
        """The columns that `expr` is, read in place where it is a slice of a wider matrix."""
        inner = expr
        while (reshape := self._graph.match(inner, "relax.reshape")) is not None:
            inner = reshape.args[0]
        columns = column_slice(self._graph, inner)
        if columns is not None and len(shape_of(columns.matrix)) == 3:
            matrix = self._flat(columns.matrix)
            return View(matrix, int(shape_of(matrix)[1]), columns.begin)
        matrix = self._flat(expr)
        return View(matrix, int(shape_of(matrix)[1]), 0)

    def _like(self, result: relax.Expr, call: relax.Call) -> relax.Expr:
        return relax.op.reshape(result, shape_of(call))

    def _matrix_spec(self, weight: relax.Expr, role: str, has_bias: bool) -> matmul.LinearSpec:
        out_features, in_features = (int(extent) for extent in shape_of(weight))
        return matmul.LinearSpec(
            out_features=out_features,
            in_features=in_features,
            format=self._formats.format_of(self._weights.names_of(weight), role),
            activations=self._formats.scheme.activations,
            has_bias=has_bias,
        )

    def _lower_linear(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        x, weight, *bias = call.args
        rows = self._graph.old_value(self._graph.old_value(var).args[0])
        role = "head" if is_op(rows, "ingot.gather_rows") else "linear"
        spec = self._matrix_spec(weight, role, has_bias=bool(bias))
        return self._like(self._linear(spec, x, weight, bias), call)

    def _linear(
        self, spec: matmul.LinearSpec, x: relax.Expr, weight: relax.Expr, bias: list[relax.Expr]
    ) -> relax.Expr:
        operands = [self._flat(x), *self._weights.matrix(weight, spec), *map(self._plain, bias)]
        return self._call("matmul", spec, operands, [shape_of(operands[0])[0], spec.width])

    def _lower_gated_linear(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        x, weight, *bias = call.args
        kind, width = attributes(call)["kind"], int(shape_of(call)[-1])
        spec = self._matrix_spec(weight, "linear", has_bias=bool(bias))
        if matmul.can_gate(width, self._target):
            weight, *bias = (self._gates_beside_ups(expr) for expr in (weight, *bias))
            return self._like(self._linear(replace(spec, gate=kind), x, weight, bias), call)
        gate_up = self._linear(spec, x, weight, bias)
        apart = activation.ActivationSpec(kind, width, gated="gate_up")
        out = self._call("activation", apart, [gate_up], [shape_of(gate_up)[0], width])
        return self._like(out, call)

    def _gates_beside_ups(self, expr: relax.Expr) -> relax.Expr:
        """The weight `[gates then ups, ...]` with a vector of gates before each vector of ups."""
        rows, *inner = (int(extent) for extent in shape_of(expr))
        lanes = self._target.float32_lanes
        halves = self._weight(relax.op.reshape(expr, [2, rows // 2 // lanes, lanes, *inner]))
        axes = [1, 0, *range(2, 3 + len(inner))]
        turns = self._weight(relax.op.permute_dims(halves, axes))
        return self._weight(relax.op.reshape(turns, [rows, *inner]))

    def _weight(self, expr: relax.Expr) -> relax.Var:
        """A variable for what is made of a weight when the weights are written."""
        value = self._graph.builder.normalize(expr)
        var = relax.Var("weight", value.ty)
        self._graph.define(var, value)
        return var

    def _lower_embedding(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        ids, table = call.args
        tied = any(is_op(user, "ingot.linear") for _, user in self._graph.uses(table))
        matrix = self._matrix_spec(table, "head" if tied else "embedding", has_bias=False)
        spec = embedding.EmbeddingSpec(
            vocab_size=matrix.out_features,
            hidden_size=matrix.in_features,
            format=matrix.format,
            activations=matrix.activations,
        )
        flat = self._graph.emit(relax.op.reshape(ids, [shape_of(ids)[-1]]))
        operands = [flat, *self._weights.matrix(table, matrix)]
        result = self._call("embedding", spec, operands, [shape_of(flat)[0], spec.hidden_size])
        return self._like(result, call)

    def _lower_gather_rows(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        x, rows = self._flat(call.args[0]), call.args[1]
        width = int(shape_of(x)[1])
        spec = gather_rows.GatherRowsSpec(width)
        return self._like(
            self._call("gather_rows", spec, [x, rows], [shape_of(rows)[0], width]), call
        )

    def _lower_norm(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        x, affine = call.args[0], call.args[1:]
        view = self._view(x)
        spec = self._norm_spec(call, x, affine, view=view)
        operands = [view.matrix, *map(self._plain, affine)]
        width = spec.width * spec.rows_per_token
        return self._like(self._call("norm", spec, operands, [shape_of(x)[1], width]), call)

    def _lower_residual_norm(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        x, residual, *affine = call.args
        spec = self._norm_spec(call, x, affine, residual=True)
        operands = [self._flat(x), self._flat(residual), *map(self._plain, affine)]
        out = relax.TensorType([shape_of(x)[1], spec.width], "float32")
        both = self._graph.emit(relax.call_tir(self._kernel("norm", spec), operands, [out, out]))
        parts = [self._graph.emit(relax.TupleGetItem(both, i)) for i in range(2)]
        shape = shape_of(x)
        return relax.Tuple([self._graph.emit(relax.op.reshape(p, shape)) for p in parts])

    def _norm_spec(
        self,
        call: relax.Call,
        x: relax.Expr,
        affine: list[relax.Expr],
        *,
        view: View | None = None,
        residual: bool = False,
    ) -> norm.NormSpec:
        rows = 1
        for extent in shape_of(x)[2:-1]:
            rows *= int(extent)
        return norm.NormSpec(
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

    def _lower_rope(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        x, cos, sin = call.args
        view = self._view(x)
        spec = self._rope_spec(x, cos, view, attributes(call))
        operands = [view.matrix, self._flat(cos), self._flat(sin)]
        width = spec.num_heads * spec.head_dim
        return self._like(self._call("rope", spec, operands, [shape_of(x)[1], width]), call)

    def _rope_spec(
        self, x: relax.Expr, cos: relax.Expr, view: View, attrs: dict[str, Any]
    ) -> rotary.RopeSpec:
        heads, head_dim = (int(extent) for extent in shape_of(x)[2:])
        return rotary.RopeSpec(
            num_heads=heads,
            head_dim=head_dim,
            cos_width=int(shape_of(cos)[-1]),
            row_width=view.row_width,
            column_offset=view.column_offset,
            **attrs,
        )

    def _lower_activation(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        x = self._flat(call.args[0])
        spec = activation.ActivationSpec(width=int(shape_of(x)[1]), **attributes(call))
        return self._like(self._call("activation", spec, [x], shape_of(x)), call)

    def _lower_gated_activation(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        operands = [self._flat(operand) for operand in call.args]
        tokens, width = shape_of(operands[0])[0], int(shape_of(call)[-1])
        spec = activation.ActivationSpec(
            width=width, gated="gate_up" if len(operands) == 1 else "separate", **attributes(call)
        )
        return self._like(self._call("activation", spec, operands, [tokens, width]), call)

    def _lower_paged_attention(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        q, k, v, *optional = call.args
        attrs = attributes(call)
        slot, store, rope = attrs.pop("layer"), attrs.pop("store"), attrs.pop("rope", None)
        tables = [optional.pop() for _ in range(2)][::-1] if rope is not None else []
        if store:
            self._written[slot] = self._write(slot, k, v, rope, tables)
        view = self._view(q)
        _, tokens, heads, key_dim = shape_of(q)
        kv_heads, value_dim = (int(extent) for extent in shape_of(v)[2:])
        spec = attention.PagedAttentionSpec(
            num_heads=int(heads),
            kv_heads=kv_heads,
            key_dim=int(key_dim),
            value_dim=value_dim,
            kv_dtype=self._formats.scheme.kv_dtype,
            page_size=self._target.page_size_tokens,
            row_width=view.row_width,
            column_offset=view.column_offset,
            **attrs,
        )
        inputs = self._inputs
        operands = [
            view.matrix,
            *self._written[slot],
            inputs.page_table,
            inputs.query_offsets,
            inputs.context_lengths,
            *map(self._plain, optional),
        ]
        width = spec.num_heads * value_dim
        return self._like(self._call("paged_attention", spec, operands, [tokens, width]), call)

    def _write(
        self,
        slot: int,
        k: relax.Expr,
        v: relax.Expr,
        rope: dict[str, Any] | None,
        tables: list[relax.Expr],
    ) -> tuple[relax.Expr, relax.Expr]:
        """Write the new tokens' keys and values; gives the pools as they are afterwards.

        With `rope`, the keys are rotated on their way by the cosine and sine `tables`.
        """
        key, value = self._view(k), self._view(v)
        kv_heads, key_dim = (int(extent) for extent in shape_of(k)[2:])
        spec = kv_write.KvWriteSpec(
            kv_heads=kv_heads,
            key_dim=key_dim,
            value_dim=int(shape_of(v)[-1]),
            kv_dtype=self._formats.scheme.kv_dtype,
            page_size=self._target.page_size_tokens,
            key_row_width=key.row_width,
            key_column_offset=key.column_offset,
            value_row_width=value.row_width,
            value_column_offset=value.column_offset,
            rope=None if rope is None else self._rope_spec(k, tables[0], key, rope),
        )
        pools = self._pools[slot]
        inputs = [key.matrix, value.matrix, self._inputs.slots, *map(self._flat, tables)]
        written = self._graph.emit(
            relax.op.call_tir_inplace(
                self._kernel("kv_write", spec),
                [*inputs, *pools],
                [len(inputs), len(inputs) + 1],
                [pool.ty for pool in pools],
            )
        )
        first, second = (self._graph.emit(relax.TupleGetItem(written, i)) for i in range(2))
        return first, second
