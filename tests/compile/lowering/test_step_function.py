"""The step takes arrays, then a tuple of page pools, then one of weights, and gives matrices."""

from __future__ import annotations

from tvm import relax
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.step_inputs import StepInputs
from ingot.models.attention import KVSlot
from tests.compile.graphs import Emit
from tests.compile.lowering.lowered import extents, lower

WEIGHTS = {"table": (40, 32), "w": (24, 32), "scale": (32,)}


def build(
    emit: Emit, ids: Var, _positions: Var, rows: Var, table: Var, w: Var, scale: Var
) -> relax.Tuple:
    x = emit(call_op("embedding", [ids, table]))
    scaled = emit(relax.op.multiply(x, emit(relax.op.add(scale, scale))))
    kept = emit(call_op("gather_rows", [scaled, rows]))
    return relax.Tuple([emit(call_op("linear", [kept, w])), x])


def test_parameters_are_those_of_the_contract() -> None:
    slots = [KVSlot(2, 16, 8, window=0)] * 3
    lowered = lower(build, WEIGHTS, kv_slots=slots)
    arrays = list(StepInputs.__dataclass_fields__)
    assert [p.name for p in lowered.function.params] == [*arrays, "kv_pools", "weights"]
    *_, pools, weights = lowered.function.params
    assert len(pools.ty.fields) == 2 * len(slots)
    assert [extents(field) for field in weights.ty.fields] == [
        tensor.shape for weight in lowered.weights for tensor in weight.tensors
    ]


def test_results_are_matrices() -> None:
    result = lower(build, WEIGHTS).function.ret_ty
    assert [extents(field) for field in result.fields] == [("m", 24), ("n", 32)]


def test_an_expression_of_weights_is_stored_and_not_computed() -> None:
    lowered = lower(build, WEIGHTS)
    assert "add" not in lowered.core and "multiply" in lowered.core
    assert lowered.stored == dict.fromkeys(("model.table", "model.scale", "model.w"), "float32")


def test_each_kernel_is_built_once() -> None:
    def twice(emit: Emit, ids: Var, _p: Var, _r: Var, table: Var, v: Var, w: Var) -> relax.Tuple:
        x = emit(call_op("embedding", [ids, table]))
        return relax.Tuple([emit(call_op("linear", [x, weight])) for weight in (v, w)])

    lowered = lower(twice, {"table": (40, 32), "v": (24, 32), "w": (24, 32)})
    assert lowered.ops == ["embedding", "matmul", "matmul"]
    assert lowered.num_kernels == 2
