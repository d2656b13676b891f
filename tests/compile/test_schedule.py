"""Core operators are inlined, spread over rows and vectorised, and compute what they did before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax, tirx
from tvm.relax import Var

from ingot.compile.build import legalize, plan, tvm_target
from ingot.compile.graph import GRAPH
from ingot.compile.schedule import schedule_for_cpu
from ingot.targets import Target, best_cpu_target, detect_cpu
from tests.compile.graphs import TOKENS, Emit, evaluate, trace
from tests.tolerances import assert_close

op = relax.op


@pytest.fixture(scope="module")
def target() -> Target:
    return best_cpu_target(detect_cpu())


def chain(emit: Emit, x: Var, y: Var) -> Var:
    return emit(op.multiply(emit(op.add(x, y)), emit(op.exp(x))))


def mean(emit: Emit, x: Var, y: Var) -> Var:
    return emit(op.subtract(x, emit(op.mean(emit(op.multiply(x, y)), [-1], keepdims=True))))


def columns(emit: Emit, x: Var, y: Var) -> Var:
    part = emit(op.strided_slice(x, [2], [1], [4], [1]))
    return emit(op.concat([part, y], axis=-1))


def heads(emit: Emit, x: Var, y: Var) -> Var:
    width = int(x.ty.shape[-1])
    split = emit(op.reshape(x, [1, TOKENS, width // 4, 4]))
    return emit(op.permute_dims(split, [0, 2, 1, 3]))


def repeated(emit: Emit, x: Var, y: Var) -> Var:
    wide = emit(op.reshape(x, [*x.ty.shape, 1]))
    return emit(op.broadcast_to(wide, [*x.ty.shape, 2]))


def functions(module: tvm.IRModule) -> list[tirx.PrimFunc]:
    return [f for f in module.functions.values() if isinstance(f, tirx.PrimFunc)]


@pytest.mark.parametrize("width", [4, 28, 32])
@pytest.mark.parametrize("num_tokens", [1, 5])
@pytest.mark.parametrize("build", [chain, mean, columns, heads, repeated])
def test_values(build: Callable[..., Var], num_tokens: int, width: int, target: Target) -> None:
    shape = (1, TOKENS, width)
    module = trace(build, {"x": shape, "y": shape})
    scheduled = schedule_for_cpu(legalize(module), target)
    assert functions(scheduled)
    assert all("tirx.is_scheduled" in function.attrs for function in functions(scheduled))
    executable = relax.build(plan(scheduled), tvm_target(target), relax_pipeline=None)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((1, num_tokens, width), dtype=np.float32) for _ in range(2))
    got = machine[GRAPH](*(tvm.runtime.tensor(array) for array in (x, y))).numpy()
    (want,) = evaluate(module, [x, y])
    assert_close(got, want, "elementwise")


def test_rows_in_parallel_and_columns_in_vectors(target: Target) -> None:
    shape = (1, TOKENS, 4 * target.float32_lanes)
    scheduled = schedule_for_cpu(legalize(trace(chain, {"x": shape, "y": shape})), target)
    (function,) = functions(scheduled)
    text = function.script()
    assert "T.parallel" in text and "T.vectorized" in text
    assert text.count("T.sblock(") == 2  # the root and one block: producers are inlined


def test_kernels_are_left_as_they_are(target: Target) -> None:
    shape = (1, TOKENS, 32)
    once = schedule_for_cpu(legalize(trace(chain, {"x": shape, "y": shape})), target)
    twice = schedule_for_cpu(once, target)
    for before, after in zip(functions(once), functions(twice), strict=True):
        assert before.same_as(after)
