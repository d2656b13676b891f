"""The vocabulary's size to the artifact's `sample` and `penalize` (the sampling contract)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax, tirx

from ingot.compile.kernels import implementation
from ingot.compile.kernels.sampling.penalize import PenalizeSpec
from ingot.compile.kernels.sampling.sample import SampleSpec
from ingot.targets import Target

SAMPLE = "sample"
SAMPLE_DIMENSIONS = {"m": (0, 0)}
"""The place that tells how many rows of logits there are (`polynomial.Place`)."""


def add_sampling(module: tvm.IRModule, vocab_size: int, target: Target) -> tvm.IRModule:
    """Add both functions, so that no more than token ids leaves the device."""
    builder = relax.BlockBuilder()
    _add_sample(builder, vocab_size, target)
    _add_penalize(builder, vocab_size, target)
    functions = {**dict(module.functions_items()), **dict(builder.get().functions_items())}
    return tvm.IRModule(functions, attrs=module.attrs)


def _variables(
    shapes: Sequence[tuple[str, Sequence[Any], str]],
) -> list[relax.Var]:
    return [relax.Var(name, relax.TensorType(shape, dtype)) for name, shape, dtype in shapes]


def _without_symbol(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """With a symbol of its own, a function is one of the module's entry points."""
    return function.without_attr("global_symbol")


def _add_sample(builder: relax.BlockBuilder, vocab_size: int, target: Target) -> None:
    """`(logits [m, vocab], temperature, top_k, top_p, min_p, uniform) -> tokens [m]`."""
    m = tirx.Var("m", "int64")
    parameters = _variables(
        [
            ("logits", (m, vocab_size), "float32"),
            ("temperature", (m,), "float32"),
            ("top_k", (m,), "int32"),
            ("top_p", (m,), "float32"),
            ("min_p", (m,), "float32"),
            ("uniform", (m,), "float32"),
        ]
    )
    function = implementation("sampling", target).build_sample(SampleSpec(vocab_size), target)
    kernel = builder.add_func(_without_symbol(function), "sample_row")
    with builder.function(SAMPLE, parameters):
        with builder.dataflow():
            call = relax.call_tir(kernel, parameters, relax.TensorType((m,), "int32"))
            tokens = builder.emit_output(call)
        builder.emit_func_output(tokens)


def _add_penalize(builder: relax.BlockBuilder, vocab_size: int, target: Target) -> None:
    """`(logits, row_offsets, tokens, …, frequency) -> logits`, the very buffer, changed."""
    m, z = tirx.Var("m", "int64"), tirx.Var("z", "int64")
    parameters = _variables(
        [
            ("logits", (m, vocab_size), "float32"),
            ("row_offsets", (m + 1,), "int32"),
            ("tokens", (z,), "int32"),
            ("output_counts", (z,), "int32"),
            ("seen", (z,), "int32"),
            ("bias", (z,), "float32"),
            ("repetition", (m,), "float32"),
            ("presence", (m,), "float32"),
            ("frequency", (m,), "float32"),
        ]
    )
    function = implementation("sampling", target).build_penalize(PenalizeSpec(vocab_size), target)
    kernel = builder.add_func(_without_symbol(function), "penalize_rows")
    logits = parameters[0]
    with builder.function("penalize", parameters):
        with builder.dataflow():
            call = relax.op.call_tir_inplace(kernel, parameters, [0], [logits.ty])
            changed = builder.emit_output(call)
        builder.emit_func_output(changed)
