"""A small graph, lowered, to the calls of kernels that it became."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx

from ingot.compile.graph import GRAPH, bindings_of, is_op, operands_of
from ingot.compile.kernels import COST
from ingot.compile.lowering import Lowering
from ingot.compile.schemes import scheme_for
from ingot.compile.storage import FormatRules, WeightTable
from ingot.models.attention import KVSlot
from ingot.targets import load_targets

N, M = tirx.Var("n", "int64"), tirx.Var("m", "int64")
INPUTS = {"ids": [1, N], "positions": [1, N], "rows": [M]}
CPU, GPU = "cpu:x86-64-v3", "cuda:sm_90"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel: its operator, its operands' shapes, and the stored ones by name."""

    op: str
    shapes: tuple[tuple[Any, ...], ...]
    stored: tuple[str, ...]
    is_in_place: bool


@dataclass(frozen=True, slots=True)
class Lowered:
    """The lowered function's parameters, calls in order, core operators and stored weights."""

    function: relax.Function
    calls: list[Call]
    core: list[str]
    weights: WeightTable
    num_kernels: int

    @property
    def ops(self) -> list[str]:
        return [call.op for call in self.calls]

    @property
    def stored(self) -> dict[str, str]:
        """Name -> dtype of each stored tensor."""
        return {t.name: t.dtype for weight in self.weights for t in weight.tensors}


def lower(
    build: Callable[..., relax.Expr],
    weights: Mapping[str, Sequence[int]],
    *,
    kv_slots: Sequence[KVSlot] = (),
    target: str = CPU,
    scheme: str = "f32",
) -> Lowered:
    """Lower the step that `build(emit, ids, positions, rows, *weights)` gives the result of."""
    inputs = [relax.Var(name, relax.TensorType(shape, "int64")) for name, shape in INPUTS.items()]
    parameters = [
        relax.Var(name, relax.TensorType(list(shape), "float32")) for name, shape in weights.items()
    ]
    builder = relax.BlockBuilder()
    attrs = {"num_input": len(inputs)}
    with builder.function(GRAPH, [*inputs, *parameters], attrs=attrs):
        with builder.dataflow():
            result = build(builder.emit, *inputs, *parameters)
            output = builder.emit_output(builder.emit(result))
        builder.emit_func_output(output)
    model = Lowering(
        builder.get(),
        checkpoint_names={name: f"model.{name}" for name in weights},
        kv_slots=kv_slots,
        target=load_targets()[target],
        formats=FormatRules(scheme_for(scheme, load_targets()[target].kind)),
    ).run()
    return read(model.module, model.weights)


def read(module: tvm.IRModule, weights: WeightTable) -> Lowered:
    function = module[GRAPH]
    names = {var: var.name for weight in weights for var in weight.variables}
    calls, core = [], []
    for binding in bindings_of(function):
        value = binding.value
        is_in_place = is_op(value, "relax.call_tir_inplace")
        if is_in_place or is_op(value, "relax.call_tir"):
            kernel = module[value.args[0].name_hint]
            operands = list(operands_of(value.args[1]))
            calls.append(
                Call(
                    json.loads(str(kernel.attrs[COST]))["op"],
                    tuple(extents(operand.ty) for operand in operands),
                    tuple(names[operand] for operand in operands if operand in names),
                    is_in_place,
                )
            )
        elif isinstance(value, relax.Call):
            core.append(value.op.name.removeprefix("relax."))
    return Lowered(function, calls, core, weights, len(module.get_global_vars()) - 1)


def extents(ty: relax.TensorType) -> tuple[Any, ...]:
    """A tensor's shape: numbers as they are, symbols by their names."""
    return tuple(
        int(extent) if isinstance(extent, tirx.IntImm | int) else str(extent)
        for extent in ty.shape.values
    )
