"""A planned function makes each view once, checks no weight, and computes what it did before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax, te

from ingot.compile.build import legalize, plan, tvm_target
from ingot.compile.graph import GRAPH, bindings_of
from ingot.compile.schedule import schedule_for_cpu
from ingot.targets import best_cpu_target, detect_cpu

LAYERS = 4
WIDTH = 16


def stack_of_layers() -> tvm.IRModule:
    """x becomes (x + w) * (x - w), layer after layer, the weights in a tuple like a step's."""
    n = tvm.tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType([n, WIDTH], "float32"))
    member = relax.TensorType([WIDTH], "float32")
    weights = relax.Var("weights", relax.TupleType([member] * LAYERS))

    def layer(a: te.Tensor, w: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda i, j: (a[i, j] + w[j]) * (a[i, j] - w[j]), name="layer")

    builder = relax.BlockBuilder()
    with builder.function(GRAPH, [x, weights]):
        with builder.dataflow():
            value = x
            for i in range(LAYERS):
                weight = builder.emit(relax.TupleGetItem(weights, i))
                value = builder.emit_te(layer, value, weight)
                value = builder.emit(relax.op.reshape(value, [1, n, WIDTH]))
                value = builder.emit(relax.op.reshape(value, [n, WIDTH]))
            result = builder.emit_output(value)
        builder.emit_func_output(result)
    return builder.get()


@pytest.fixture(scope="module")
def planned() -> tvm.IRModule:
    return plan(schedule_for_cpu(legalize(stack_of_layers()), best_cpu_target(detect_cpu())))


@pytest.fixture(scope="module")
def calls(planned: tvm.IRModule) -> Counter[str]:
    """How often the function calls each function of the virtual machine."""
    values = [binding.value for binding in bindings_of(planned[GRAPH])]
    operators = [value.op for value in values if isinstance(value, relax.Call)]
    names = [
        getattr(operator, "global_symbol", getattr(operator, "name", "")) for operator in operators
    ]
    return Counter(str(name) for name in names)


def test_each_view_is_made_once(calls: Counter[str]) -> None:
    # The layers write to two buffers in turn, and the last to the result.
    assert 0 < calls["vm.builtin.alloc_tensor"] + calls["relax.vm.alloc_tensor"] <= 3
    assert 0 < calls["vm.builtin.reshape"] <= 2 * 3


def test_each_member_of_a_tuple_is_taken_once(planned: tvm.IRModule) -> None:
    values = [binding.value for binding in bindings_of(planned[GRAPH])]
    assert sum(isinstance(value, relax.TupleGetItem) for value in values) == LAYERS


def test_weights_are_not_checked_and_inputs_are(calls: Counter[str]) -> None:
    assert calls["vm.builtin.check_tensor_info"] == 1  # x
    assert calls["vm.builtin.check_tuple_info"] == 1  # that the weights are as many
    assert calls["vm.builtin.match_shape"] == 1  # x, which brings n


@pytest.mark.parametrize("num_rows", [1, 5])
def test_values(planned: tvm.IRModule, num_rows: int) -> None:
    target = best_cpu_target(detect_cpu())
    executable = relax.build(planned, tvm_target(target), relax_pipeline=None)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    random = np.random.default_rng(3)
    x = random.uniform(-1, 1, (num_rows, WIDTH)).astype(np.float32)
    weights = [random.uniform(-1, 1, WIDTH).astype(np.float32) for _ in range(LAYERS)]
    expected = x
    for weight in weights:
        expected = (expected + weight) * (expected - weight)
    as_tensor = tvm.runtime.tensor
    lent = tvm_ffi.Array([as_tensor(weight) for weight in weights])
    result = machine[GRAPH](as_tensor(x), lent).numpy()
    np.testing.assert_array_equal(result, expected)
