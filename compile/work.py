"""A scheduled module's step to records of what each of its kernels moves and computes.

Every call of a `PrimFunc` in the step is one kernel call of the virtual machine, in this order.
Calls of one kernel with tensors of the same kinds in the same place of the model are one record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx
from tvm_ffi.structural import VisitInterrupt, WalkResult, structural_walk

from ingot.compile.build import STEP
from ingot.compile.graph import bindings_of, is_op
from ingot.compile.kernels import COST
from ingot.compile.kernels.costs import Cost
from ingot.compile.polynomial import (
    Polynomial,
    added,
    named_dimensions,
    num_bytes,
    num_elements,
    polynomial_of,
    scaled,
)
from ingot.compile.step_inputs import STEP_DIMENSIONS
from ingot.runtime.artifact.work import WorkRecord

CORE = "core"
"""The operator of functions that TVM made of core operators."""

_LAYER_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_PARALLEL, _VECTORISED = 1, 2  # tirx.ForKind


def describe_work(module: tvm.IRModule, weight_names: Sequence[str]) -> tuple[WorkRecord, ...]:
    """The work of the module's step; `weight_names` in the order of its argument."""
    step = module[STEP]
    reader = _Reader(step, list(weight_names))
    bodies: dict[str, _Body] = {}
    groups: dict[str, tuple[dict[str, Any], list[int]]] = {}
    calls = [
        b.value
        for b in bindings_of(step)
        if is_op(b.value, "relax.call_tir") or is_op(b.value, "relax.call_tir_inplace")
    ]
    for position, call in enumerate(calls):
        name = call.args[0].name_hint
        function = module[name]
        if name not in bodies:
            bodies[name] = _read_body(function)
        fields = reader.describe(call, function) | {
            "kernel": name,
            "parallel_regions": bodies[name].parallel_regions,
            "is_vectorised": bodies[name].is_vectorised,
        }
        key = json.dumps(fields, sort_keys=True)
        groups.setdefault(key, (fields, []))[1].append(position)
    return tuple(
        WorkRecord(**fields, calls=tuple(positions)) for fields, positions in groups.values()
    )


class _Reader:
    """Sees the calls of one step: whose weights they read, and their tensors' sizes."""

    def __init__(self, step: relax.Function, weight_names: list[str]) -> None:
        *arrays, pools, weights = step.params
        self._symbols = named_dimensions(arrays, STEP_DIMENSIONS)
        self._weights: dict[relax.Var, str] = {}
        self._pools: set[relax.Var] = set()
        for binding in bindings_of(step):
            value = binding.value
            if isinstance(value, relax.TupleGetItem):
                if value.tuple_value.same_as(weights):
                    self._weights[binding.var] = weight_names[value.index]
                elif value.tuple_value.same_as(pools) or value.tuple_value in self._pools:
                    self._pools.add(binding.var)
            elif is_op(value, "relax.call_tir_inplace") and any(
                isinstance(arg, relax.Var) and arg in self._pools for arg in value.args[1]
            ):
                self._pools.add(binding.var)

    def describe(self, call: relax.Call, function: tirx.PrimFunc) -> dict[str, Any]:
        """The record's fields that the call site tells."""
        known = json.loads(str(function.attrs[COST])) if COST in function.attrs else {"op": CORE}
        op = known.pop("op")
        cost = Cost(**known)
        operands = [o for o in call.args[1] if isinstance(o.ty, relax.TensorType)]  # no symbols
        weights = [o for o in operands if isinstance(o, relax.Var) and o in self._weights]
        others = [o for o in operands if not (isinstance(o, relax.Var) and self._is_stored(o))]
        results = _tensor_types(call.ty_args)
        if is_op(call, "relax.call_tir_inplace"):
            results = []
        rows = self._rows([*(o.ty for o in others), *results])
        moved = [*(o.ty for o in others), *results]
        activations = added(num_bytes(t, self._symbols) for t in moved)
        operations = added(num_elements(t, self._symbols) for t in results)
        if cost.activations_per_row is not None:
            activations = scaled(rows, cost.activations_per_row)
        if cost.operations_per_row is not None:
            operations = scaled(rows, cost.operations_per_row)
        weight_bytes = added(num_bytes(w.ty, self._symbols) for w in weights).get("1", 0)
        names = [self._weights[w] for w in weights]
        return {
            "op": op,
            "place": _LAYER_NUMBER.sub("", names[0]).removesuffix(".weight") if names else op,
            "label": cost.label,
            "weight_bytes": weight_bytes if cost.reads_weights_whole else 0,
            "activation_bytes": activations,
            "kv_bytes": added(
                [scaled(rows, cost.kv_per_row), scaled({"context": 1}, cost.kv_per_context)]
            ),
            "operations": added([operations, scaled({"pairs": 1}, cost.operations_per_pair)]),
            "arithmetic": cost.arithmetic,
            "window": cost.window,
        }

    def _is_stored(self, variable: relax.Var) -> bool:
        return variable in self._weights or variable in self._pools

    def _rows(self, types: list[Any]) -> Polynomial:
        """The first dimension of the results, else of the operands: what a row is here."""
        for ty in reversed(types):
            extents = num_elements(ty, self._symbols)
            if len(ty.shape.values) > 1 and set(extents) - {"1"}:
                return polynomial_of(ty.shape.values[0], self._symbols)
        return {"n": 1}


def _tensor_types(ty_args: Any) -> list[Any]:
    [ty] = ty_args
    return list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]


@dataclass(frozen=True, slots=True)
class _Body:
    parallel_regions: int  # outside of conditions: small inputs don't reach those
    is_vectorised: bool


def _read_body(function: tirx.PrimFunc) -> _Body:
    regions = 0

    def enter(loop: tirx.For) -> Any:
        nonlocal regions
        if int(loop.kind) != _PARALLEL:
            return WalkResult.ADVANCE
        regions += 1
        return WalkResult.SKIP

    def is_vector(node: tirx.Ramp | tirx.For) -> Any:
        is_one = isinstance(node, tirx.Ramp) or int(node.kind) == _VECTORISED
        return VisitInterrupt() if is_one else WalkResult.ADVANCE

    skip = (tirx.IfThenElse, lambda _: WalkResult.SKIP)
    structural_walk(function.body, [(tirx.For, enter), skip], order="pre")
    found = structural_walk(function.body, ((tirx.Ramp, tirx.For), is_vector))
    return _Body(regions, found is not None)
