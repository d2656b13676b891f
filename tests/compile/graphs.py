"""Small Relax functions for tests of the graph stages, and what a function computes, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from ingot.compile.graph import GRAPH, Rewritten, bindings_of
from tests.compile.numpy_relax import Interpreter
from tests.tolerances import assert_close

TOKENS = tirx.Var("n", "int64")
Shape = Sequence[Any]
Emit = Callable[[relax.Expr], relax.Var]


def trace(
    build: Callable[..., Any],
    inputs: Mapping[str, Shape],
    weights: Mapping[str, Shape] | None = None,
) -> tvm.IRModule:
    """A module like the importer's. `build(emit, *inputs, *weights)` gives the result."""
    variables = [
        relax.Var(name, relax.TensorType(shape, "float32"))
        for name, shape in {**inputs, **(weights or {})}.items()
    ]
    builder = relax.BlockBuilder()
    with builder.function(GRAPH, variables, attrs={"num_input": len(inputs)}):
        with builder.dataflow():
            result = build(builder.emit, *variables)
            if isinstance(result, relax.Tuple):
                result = builder.emit(result)
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    return builder.get()


def random_arguments(module: tvm.IRModule, num_tokens: int = 5) -> list[np.ndarray]:
    """Normal values for every parameter of the function."""
    random = np.random.default_rng(0)
    return [
        random.standard_normal(
            [int(extent) if isinstance(extent, tirx.IntImm) else num_tokens for extent in shape]
        )
        for shape in (parameter.ty.shape.values for parameter in module[GRAPH].params)
    ]


def evaluate(module: tvm.IRModule, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The function's results in float64, a tuple as a list."""
    result = Interpreter(module[GRAPH], arguments).run()
    return list(result) if isinstance(result, tuple) else [result]


def operators(module: tvm.IRModule) -> list[str]:
    """The names of the operators called, in order."""
    return [
        binding.value.op.name
        for binding in bindings_of(module[GRAPH])
        if isinstance(binding.value, relax.Call)
    ]


def check_rewrite(
    before: tvm.IRModule, rewritten: Rewritten, expected: tvm.IRModule, num_matched: int = 1
) -> None:
    """The rewritten module is the expected one and computes what it did before."""
    tvm.ir.assert_structural_equal(rewritten.module[GRAPH], expected[GRAPH], map_free_vars=True)
    assert rewritten.num_matched == num_matched
    check_same_values(before, rewritten.module)


def check_unchanged(before: tvm.IRModule, rewritten: Rewritten) -> None:
    tvm.ir.assert_structural_equal(rewritten.module[GRAPH], before[GRAPH], map_free_vars=True)
    assert rewritten.num_matched == 0


def check_same_values(before: tvm.IRModule, after: tvm.IRModule) -> None:
    arguments = random_arguments(before)
    for old, new in zip(evaluate(before, arguments), evaluate(after, arguments), strict=True):
        assert_close(new, old, "rewrite")
