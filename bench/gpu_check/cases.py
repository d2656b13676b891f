"""The kernels that a check runs: operator, spec, inputs at random, right answers, how far off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels import matmul
from ingot.compile.kernels.kv_write.reference import to_kv_dtype
from ingot.compile.kernels.matmul import LinearSpec, reference
from ingot.compile.kernels.paged_attention.reference import reference as attention_reference
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.schemes import FORMATS
from ingot.runtime.artifact.kv_layout import num_slabs
from ingot.targets import Target

Array = NDArray[Any]
LINEAR_BOUND = 4e-6  # of the largest output: float32 sums of the same products
FLOAT8_BOUND = 1e-3  # the same where tensor cores add up 13 bits or so of products of 8-bit floats
ATTENTION_BOUNDS = {"float32": 1e-5, "float16": 2**-11, "bfloat16": 2**-8}  # of the largest value


@dataclass(frozen=True, slots=True)
class Inputs:
    """One call: arrays in the kernel's order but for the output, and the output that is right."""

    label: str
    arrays: list[Array]
    expected: NDArray[np.float32]
    bound: float  # absolute


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel and its calls."""

    name: str
    operator: str
    spec: Any
    inputs: list[Inputs]


def make_cases(target: Target, *, small: bool = False) -> Iterator[Case]:
    """All cases; `small` ones are for emulated GPUs, and as many."""
    rng = np.random.default_rng(0)
    features, inputs = (48, 300) if small else (3072, 4096)
    for code in ("f32", "f16", "bf16", "q8_g32", "q4_s128", "f8"):
        spec = LinearSpec(features, inputs, FORMATS[code], "float32", True)
        yield _linear(spec, target, rng, (1, 9) if small else (1, 7, 16, 64, 65, 512))
    for dtype in ("float16", "bfloat16"):
        heads, kv_heads, size = (4, 2, 32) if small else (32, 8, 128)
        page = target.page_size_tokens
        attention = PagedAttentionSpec(
            heads,
            kv_heads,
            size,
            size,
            size**-0.5,
            kv_dtype=dtype,
            page_size=page,
        )
        yield _attention(attention, rng, small)


def _linear(
    spec: LinearSpec, target: Target, rng: np.random.Generator, rows: tuple[int, ...]
) -> Case:
    weight = rng.standard_normal((spec.out_features, spec.in_features), np.float32)
    bias = rng.standard_normal(spec.out_features, np.float32)
    packed = matmul.pack(weight, spec, target)
    really = matmul.effective_activations(spec, target)
    calls = []
    for n in rows:
        x = rng.standard_normal((n, spec.in_features), np.float32)
        want = reference.linear(x, weight, bias, spec.format, really).astype(np.float32)
        share = FLOAT8_BOUND if really == "float8" else LINEAR_BOUND
        bound = share * float(np.abs(want).max())
        calls.append(Inputs(f"{n} rows", [x, *packed, bias], want, bound))
    return Case(f"linear {spec.format.code}", "matmul", spec, calls)


def _attention(spec: PagedAttentionSpec, rng: np.random.Generator, small: bool) -> Case:
    batches = [[(1, 40), (1, 300)], [(70, 90)]] if small else [[(1, 1000)] * 8, [(512, 1024)]]
    calls = []
    for sequences in batches:
        arrays = _paged_inputs(spec, rng, sequences)
        want = attention_reference(spec, *arrays).astype(np.float32)
        label = f"{sum(new for new, _ in sequences)} rows, context {sequences[0][1]}"
        calls.append(Inputs(label, arrays, want, ATTENTION_BOUNDS[spec.kv_dtype] * 5))
    return Case(f"attention {spec.kv_dtype}", "paged_attention", spec, calls)


def _paged_inputs(
    spec: PagedAttentionSpec, rng: np.random.Generator, sequences: list[tuple[int, int]]
) -> list[Array]:
    pages = [-(-context // spec.page_size) for _, context in sequences]
    table = np.zeros((len(sequences), max(pages)), np.int32)
    free = rng.permutation(sum(pages)).astype(np.int32)
    for i, count in enumerate(pages):
        table[i, :count], free = free[:count], free[count:]
    slabs = num_slabs(sum(pages), spec.kv_heads)
    key = rng.standard_normal((slabs, spec.key_dim, spec.page_size), np.float32)
    value = rng.standard_normal((slabs, spec.page_size, spec.value_dim), np.float32)
    new = [count for count, _ in sequences]
    return [
        rng.standard_normal((sum(new), spec.row_width), np.float32),
        to_kv_dtype(key, spec.kv_dtype),
        to_kv_dtype(value, spec.kv_dtype),
        table,
        np.cumsum([0, *new]).astype(np.int32),
        np.array([context for _, context in sequences], np.int32),
    ]
