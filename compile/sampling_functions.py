"""The vocabulary's size to the artifact's functions that choose tokens (the sampling contract):
`sample` and `penalize`, and on a GPU `mask` and `logprobs`, which a CPU's runtime does itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax, tirx

from ingot.compile.kernels import implementation
from ingot.compile.kernels.sampling.cuda_logprobs import NUM_FIELDS
from ingot.compile.kernels.sampling.spec import SamplingSpec
from ingot.targets import Target

SAMPLE, MASK, LOGPROBS = "sample", "mask", "logprobs"
ROW_DIMENSIONS = {"m": (0, 0)}
"""Of `sample` and `logprobs`: the place that tells how many rows there are (`polynomial.Place`)."""


def add_sampling(module: tvm.IRModule, vocab_size: int, target: Target) -> tvm.IRModule:
    """Add the functions, so that no more than what was chosen leaves the device."""
    builder = relax.BlockBuilder()
    _add_sample(builder, vocab_size, target)
    _add_penalize(builder, vocab_size, target)
    if target.kind == "cuda":
        _add_mask(builder, vocab_size, target)
        _add_logprobs(builder, vocab_size, target)
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
    function = implementation("sampling", target).build_sample(SamplingSpec(vocab_size), target)
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
    function = implementation("sampling", target).build_penalize(SamplingSpec(vocab_size), target)
    kernel = builder.add_func(_without_symbol(function), "penalize_rows")
    _add_in_place(builder, "penalize", kernel, parameters)


def _add_mask(builder: relax.BlockBuilder, vocab_size: int, target: Target) -> None:
    """`(logits, mask_rows, bits) -> logits`, the very buffer, changed."""
    m, z, spec = tirx.Var("m", "int64"), tirx.Var("z", "int64"), SamplingSpec(vocab_size)
    parameters = _variables(
        [
            ("logits", (m, vocab_size), "float32"),
            ("mask_rows", (m,), "int32"),
            ("bits", (z, spec.num_words), "int32"),
        ]
    )
    function = implementation("sampling", target).build_mask(spec, target)
    kernel = builder.add_func(_without_symbol(function), "mask_logits")
    _add_in_place(builder, MASK, kernel, parameters)


def _add_in_place(
    builder: relax.BlockBuilder, name: str, kernel: Any, parameters: list[relax.Var]
) -> None:
    """A function that changes its first argument."""
    with builder.function(name, parameters):
        with builder.dataflow():
            call = relax.op.call_tir_inplace(kernel, parameters, [0], [parameters[0].ty])
            changed = builder.emit_output(call)
        builder.emit_func_output(changed)


def _add_logprobs(builder: relax.BlockBuilder, vocab_size: int, target: Target) -> None:
    """`(logits, tokens [m], num_top [m]) -> what log-probabilities are made of`."""
    m = tirx.Var("m", "int64")
    parameters = _variables(
        [
            ("logits", (m, vocab_size), "float32"),
            ("tokens", (m,), "int32"),
            ("num_top", (m,), "int32"),
        ]
    )
    function = implementation("sampling", target).build_logprobs(SamplingSpec(vocab_size), target)
    kernel = builder.add_func(_without_symbol(function), "rank_logprobs")
    with builder.function(LOGPROBS, parameters):
        with builder.dataflow():
            out = relax.TensorType((m, NUM_FIELDS), "float64")
            found = builder.emit_output(relax.call_tir(kernel, parameters, out))
        builder.emit_func_output(found)
