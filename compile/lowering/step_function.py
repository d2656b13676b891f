"""The graph function to the step of the contract, its operators to calls of kernels.

The function takes flat int32 inputs, one tuple of page pools and one tuple of stored weights, and
gives the logits and each layer's output as matrices `[n, width]`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import tvm
from tvm import relax

from ingot.compile.fast_inspect import fast_inspect
from ingot.compile.graph import GRAPH, Graph, operands_of, shape_of
from ingot.compile.lowering.attention import AttentionLowering
from ingot.compile.lowering.emitter import Emitter
from ingot.compile.lowering.operators import OPERATORS
from ingot.compile.step_inputs import create_step_inputs
from ingot.compile.storage import FormatRules, WeightTable
from ingot.compile.weight_expressions import is_evaluable
from ingot.models.attention import KVSlot
from ingot.targets import Target


@dataclass(frozen=True, slots=True)
class LoweredModel:
    """A module whose function `trace` calls kernels, the weights that it takes, and how often it
    calls the kernel of each spec."""

    module: tvm.IRModule
    weights: WeightTable
    calls: Counter[Any]


class Lowering:
    """One pass over the graph function."""

    def __init__(
        self,
        module: tvm.IRModule,
        *,
        checkpoint_names: dict[str, str],
        kv_slots: Sequence[KVSlot],
        target: Target,
        formats: FormatRules,
    ) -> None:
        self._graph = Graph(module[GRAPH], weights_first=True)
        self._weights = WeightTable(self._graph, checkpoint_names, target)
        self._emitter = Emitter(self._graph, self._weights, target, formats)
        ids, _, rows = self._graph.parameters[:3]
        self._inputs = create_step_inputs(shape_of(ids)[1], shape_of(rows)[0])
        self._attention = AttentionLowering(self._emitter, self._inputs, kv_slots)
        self._operators: dict[str, Callable[[relax.Var, relax.Call], relax.Expr]] = {
            **{name: partial(lower, self._emitter) for name, lower in OPERATORS.items()},
            "ingot.paged_attention": self._attention.lower,
        }

    def run(self) -> LoweredModel:
        for old, new in zip(self._graph.parameters[:3], self._model_inputs(), strict=True):
            self._graph.replace(old, new)
        with fast_inspect():
            function = self._graph.run(self._lower, self._flatten_outputs)
        module = self._graph.builder.get()
        for name in [v.name_hint for v in module.get_global_vars() if v.name_hint == "rewritten"]:
            del module[name]
        module[GRAPH] = self._with_parameters(function)
        module = relax.transform.DeadCodeElimination([GRAPH])(module)
        return LoweredModel(module, self._weights, self._emitter.calls)

    def _model_inputs(self) -> list[relax.Expr]:
        """The captured model's inputs made of the step's."""
        inputs = self._inputs
        tokens = shape_of(inputs.token_ids)[0]

        def widen(expr: relax.Expr) -> relax.Expr:
            return relax.op.astype(expr, "int64")

        return [
            relax.op.reshape(widen(inputs.token_ids), [1, tokens]),
            relax.op.reshape(widen(inputs.positions), [1, tokens]),
            widen(inputs.logit_rows),
        ]

    def _lower(self, graph: Graph, var: relax.Var, value: relax.Expr) -> relax.Expr | None:
        if is_evaluable(graph, value) and graph.weights_in(value):
            graph.define(var, value)  # made when the weights are written
            return var
        if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op):
            if value.op.name.startswith("ingot."):
                return self._operators[value.op.name](var, value)
        return self._with_stored_weights(value)

    def _with_stored_weights(self, value: relax.Expr) -> relax.Expr | None:
        """A core operator that takes a weight takes it in float32."""
        has_weights = any(self._emitter.is_stored(operand) for operand in operands_of(value))
        if not has_weights or not isinstance(value, relax.Call):
            return None

        def stored(expr: relax.Expr) -> relax.Expr:
            if isinstance(expr, relax.Tuple):
                return relax.Tuple([stored(field) for field in expr.fields])
            return self._emitter.plain(expr)

        return relax.Call(value.op, [stored(arg) for arg in value.args], value.attrs)

    def _flatten_outputs(self, result: relax.Expr) -> relax.Expr:
        known = self._graph.definition(result)
        fields = known.fields if isinstance(known, relax.Tuple) else [result]
        return relax.Tuple([self._emitter.flat(field) for field in fields])

    def _with_parameters(self, function: relax.Function) -> relax.Function:
        """Replace the parameters by the step's: arrays, then a tuple of pools, then of weights."""
        stored = [variable for weight in self._weights for variable in weight.variables]
        bindings, tuples = [], []
        for name, members in (("kv_pools", self._attention.pools), ("weights", stored)):
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
