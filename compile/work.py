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
from ingot.runtime.artifact.work import WorkRecord

CORE = "core"
"""The operator of functions that TVM made of core operators."""

_LAYER_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_PARALLEL, _VECTORISED = 1, 2  # tirx.ForKind

Polynomial = dict[str, int]


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
        ids, _, _, pages, _, _, rows, pools, weights = step.params
        self._symbols = {
            ids.ty.shape.values[0]: "n",
            pages.ty.shape.values[0]: "b",
            pages.ty.shape.values[1]: "p",
            rows.ty.shape.values[0]: "m",
        }
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
        activations = _sum(self._num_bytes(t) for t in moved)
        operations = _sum(self._num_elements(t) for t in results)
        if cost.activations_per_row is not None:
            activations = _scaled(rows, cost.activations_per_row)
        if cost.operations_per_row is not None:
            operations = _scaled(rows, cost.operations_per_row)
        weight_bytes = _sum(self._num_bytes(w.ty) for w in weights).get("1", 0)
        names = [self._weights[w] for w in weights]
        return {
            "op": op,
            "place": _LAYER_NUMBER.sub("", names[0]).removesuffix(".weight") if names else op,
            "label": cost.label,
            "weight_bytes": weight_bytes if cost.reads_weights_whole else 0,
            "activation_bytes": activations,
            "kv_bytes": _sum(
                [_scaled(rows, cost.kv_per_row), _scaled({"context": 1}, cost.kv_per_context)]
            ),
            "operations": _sum([operations, _scaled({"pairs": 1}, cost.operations_per_pair)]),
            "arithmetic": cost.arithmetic,
            "window": cost.window,
        }

    def _is_stored(self, variable: relax.Var) -> bool:
        return variable in self._weights or variable in self._pools

    def _rows(self, types: list[Any]) -> Polynomial:
        """The first dimension of the results, else of the operands: what a row is here."""
        for ty in reversed(types):
            extents = self._num_elements(ty)
            if len(ty.shape.values) > 1 and set(extents) - {"1"}:
                return self._polynomial(ty.shape.values[0])
        return {"n": 1}

    def _num_elements(self, ty: Any) -> Polynomial:
        product: Polynomial = {"1": 1}
        for extent in ty.shape.values:
            product = _multiply(product, self._polynomial(extent))
        return product

    def _num_bytes(self, ty: Any) -> Polynomial:
        return _scaled(self._num_elements(ty), (tvm.DataType(str(ty.dtype)).bits + 7) // 8)

    def _polynomial(self, extent: Any) -> Polynomial:
        if isinstance(extent, int):
            return {"1": extent}
        if isinstance(extent, tirx.IntImm):
            return {"1": int(extent.value)}
        if isinstance(extent, tirx.Var):
            found = next((n for v, n in self._symbols.items() if v.same_as(extent)), None)
            assert found is not None, f"unknown dimension {extent}"
            return {found: 1}
        first, second = self._polynomial(extent.a), self._polynomial(extent.b)
        if isinstance(extent, tirx.Mul):
            return _multiply(first, second)
        assert isinstance(extent, tirx.Add), extent
        return _sum([first, second])


def _tensor_types(ty_args: Any) -> list[Any]:
    [ty] = ty_args
    return list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]


def _sum(terms: Any) -> Polynomial:
    total: Polynomial = {}
    for polynomial in terms:
        for name, coefficient in polynomial.items():
            total[name] = total.get(name, 0) + coefficient
    return dict(sorted((name, c) for name, c in total.items() if c))


def _scaled(polynomial: Polynomial, factor: int) -> Polynomial:
    return {name: factor * c for name, c in polynomial.items() if factor}


def _multiply(first: Polynomial, second: Polynomial) -> Polynomial:
    total: Polynomial = {}
    for a, x in first.items():
        for b, y in second.items():
            factors = sorted(f for f in (*a.split("*"), *b.split("*")) if f != "1")
            name = "*".join(factors) or "1"
            total[name] = total.get(name, 0) + x * y
    return total


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
