"""A function that takes its memory allocates nothing, and computes what it did before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax, te

from ingot.compile.build import legalize, lower_to_calls, place_tensors, tvm_target
from ingot.compile.graph import GRAPH, bindings_of
from ingot.compile.memory import PlannedMemory, give_memory
from ingot.compile.schedule import schedule_for_cpu
from ingot.runtime.artifact.manifest import ALLOCATE, VIEWS_SUFFIX
from ingot.runtime.artifact.work import evaluate, symbols_of
from ingot.targets import best_cpu_target, detect_cpu

LAYERS = 4
WIDTH = 24  # 96 bytes a row: the next tensor must not start there
DIMENSIONS = {GRAPH: {"n": (0, 0)}}


def rows_and_sums(num_layers: int = LAYERS) -> tvm.IRModule:
    """x becomes 2 x + (the sum of each row of x), layer after layer: tensors of two shapes."""
    n = tvm.tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType([n, WIDTH], "float32"))

    def total(a: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, WIDTH), "k")
        return te.compute([a.shape[0]], lambda i: te.sum(a[i, k], axis=k), name="total")

    def layer(a: te.Tensor, s: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda i, j: a[i, j] + a[i, j] + s[i], name="layer")

    builder = relax.BlockBuilder()
    with builder.function(GRAPH, [x]):
        with builder.dataflow():
            value = x
            for _ in range(num_layers):
                sums = builder.emit_te(total, value)
                sums = builder.emit(relax.op.reshape(sums, [n, 1]))
                sums = builder.emit(relax.op.reshape(sums, [n]))
                value = builder.emit_te(layer, value, sums)
            result = builder.emit_output(value)
        builder.emit_func_output(result)
    return builder.get()


def place(module: tvm.IRModule) -> tvm.IRModule:
    return place_tensors(schedule_for_cpu(legalize(module), best_cpu_target(detect_cpu())))


@pytest.fixture(scope="module")
def memory() -> PlannedMemory:
    return give_memory(place(rows_and_sums()), DIMENSIONS)


@pytest.fixture(scope="module")
def machine(memory: PlannedMemory) -> relax.VirtualMachine:
    target = tvm_target(best_cpu_target(detect_cpu()))
    executable = relax.build(lower_to_calls(memory.module), target, relax_pipeline=None)
    return relax.VirtualMachine(executable, tvm.cpu())


def names_of_calls(function: relax.Function) -> Counter[str]:
    values = [binding.value for binding in bindings_of(function)]
    calls = [value.op for value in values if isinstance(value, relax.Call)]
    return Counter(str(getattr(op, "name", getattr(op, "global_symbol", ""))) for op in calls)


def test_nothing_is_allocated_nor_viewed(memory: PlannedMemory) -> None:
    called = names_of_calls(lower_to_calls(memory.module)[GRAPH])
    assert called
    assert not [name for name in called if "alloc_tensor" in name or "alloc_storage" in name]
    assert not [name for name in called if "reshape" in name or "make_shape" in name]


def test_buffers_take_turns(memory: PlannedMemory) -> None:
    # Sums, x in one of two buffers, and the result in its own, which outlives the call.
    row = 128  # 96 bytes, up to the next multiple of 64
    assert memory.workspace == {GRAPH: {"n": 64 + 3 * row}}
    longer = give_memory(place(rows_and_sums(2 * LAYERS)), DIMENSIONS)
    assert longer.workspace == memory.workspace


@pytest.mark.parametrize("num_rows", [1, 2, 5, 33])
def test_values(memory: PlannedMemory, machine: relax.VirtualMachine, num_rows: int) -> None:
    amount = memory.workspace[GRAPH]
    assert symbols_of(amount) == ("n",)
    num_bytes = evaluate(amount, {"n": num_rows})
    arena = machine[ALLOCATE](tvm_ffi.Shape([num_bytes]))
    views = machine[GRAPH + VIEWS_SUFFIX](tvm_ffi.Shape([num_rows]), arena)
    assert all(view.data_ptr() % 64 == 0 for view in views)
    random = np.random.default_rng(3)
    for _ in range(2):  # the same memory again
        x = random.uniform(-1, 1, (num_rows, WIDTH)).astype(np.float32)
        result = machine[GRAPH](tvm.runtime.tensor(x), views).numpy()
        expected = x
        for _ in range(LAYERS):
            expected = 2 * expected + expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)


def test_a_function_without_tensors_of_its_own_stays() -> None:
    module = place(rows_and_sums(0))
    memory = give_memory(module, DIMENSIONS)
    assert memory.workspace == {}
    assert len(memory.module[GRAPH].params) == 1
    assert ALLOCATE not in [variable.name_hint for variable in memory.module.get_global_vars()]


def test_functions_that_are_not_named_allocate_as_before() -> None:
    memory = give_memory(place(rows_and_sums()), {})
    assert "alloc_storage" in " ".join(names_of_calls(memory.module[GRAPH]))
