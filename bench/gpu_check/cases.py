"""The kernels that a check runs: operator, spec, inputs at random, right answers, how far off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ingot.bench.gpu_check.case import Array, Case, Inputs
from ingot.bench.gpu_check.random_values import RandomArray
from ingot.bench.gpu_check.row_cases import make_row_cases
from ingot.compile.kernels import matmul
from ingot.compile.kernels.costs import cost_of
from ingot.compile.kernels.kv_write.reference import to_kv_dtype
from ingot.compile.kernels.matmul import LinearSpec, reference
from ingot.compile.kernels.paged_attention.reference import reference as attention_reference
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.schemes import FORMATS
from ingot.runtime.artifact.kv_layout import num_slabs
from ingot.targets import Target

LINEAR_BOUND = 4e-6  # of the largest output: float32 sums of the same products
FLOAT8_BOUND = 1e-3  # the same where tensor cores add up 13 bits or so of products of 8-bit floats
ATTENTION_BOUNDS = {"float32": 1e-5, "float16": 2**-11, "bfloat16": 2**-8}  # of the largest value

Sequences = Sequence[tuple[int, int]]
"""New tokens of each sequence and its context, these included."""

PROMPT: Sequences = [(2048, 2048)]
DECODING: Sequences = [(1, 4096)] * 16  # more keys and values than a GPU's cache holds
POOLS = 3  # arguments of attention that are random: queries, keys and values


def attention_label(sequences: Sequences) -> str:
    return f"{sum(new for new, _ in sequences)} rows, context {sequences[0][1]}"


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
        yield _attention(attention, target, rng, small)
    yield from make_row_cases(target, rng, small=small)


def _linear(
    spec: LinearSpec, target: Target, rng: np.random.Generator, rows: tuple[int, ...]
) -> Case:
    weight = rng.standard_normal((spec.out_features, spec.in_features), np.float32)
    bias = rng.standard_normal(spec.out_features, np.float32)
    packed = matmul.pack(weight, spec, target)
    really = matmul.effective_activations(spec, target)
    operations = cost_of("matmul", spec, target).operations_per_row or 0
    calls = []
    for n in rows:
        x = rng.standard_normal((n, spec.in_features), np.float32)
        want = reference.linear(x, weight, bias, spec.format, really).astype(np.float32)
        share = FLOAT8_BOUND if really == "float8" else LINEAR_BOUND
        calls.append(
            Inputs(
                f"{n} rows",
                [x, *packed, bias],
                operations * n,
                sum(tensor.nbytes for tensor in packed),
                (want,),
                share * float(np.abs(want).max()),
            )
        )
    return Case(f"linear {spec.format.code}", "matmul", spec, calls)


def _attention(
    spec: PagedAttentionSpec, target: Target, rng: np.random.Generator, small: bool
) -> Case:
    """Calls with right answers; a prompt and a batch that decodes are too large for any."""
    checked = [[(1, 40), (1, 300)], [(70, 90)]] if small else [[(1, 1000)] * 8, [(512, 1024)]]
    timed = [[(64, 64)], [(1, 64)] * 2] if small else [PROMPT, DECODING]
    cost, calls = cost_of("paged_attention", spec, target), []
    for sequences in (*checked, *timed):
        arrays: list[Array | RandomArray] = [*_paged_inputs(spec, rng, sequences)]
        bound = 0.0
        want: tuple[Array, ...] = ()
        if sequences in checked:
            drawn = [rng.standard_normal(a.shape, np.float32) for a in arrays[:POOLS]]
            pools = [to_kv_dtype(pool, spec.kv_dtype) for pool in drawn[1:]]
            whole: list[Any] = [drawn[0], *pools, *arrays[POOLS:]]
            want = (attention_reference(spec, *whole).astype(np.float32),)
            bound, arrays = ATTENTION_BOUNDS[spec.kv_dtype] * 5, whole
        rows = sum(new for new, _ in sequences)
        pairs = sum(new * (2 * context - new + 1) // 2 for new, context in sequences)
        calls.append(
            Inputs(
                attention_label(sequences),
                arrays,
                cost.operations_per_pair * pairs,
                cost.kv_per_context * sum(context for _, context in sequences),
                want,
                bound,
                timed_out_shape=(rows, spec.num_heads * spec.value_dim),
            )
        )
    return Case(f"attention {spec.kv_dtype}", "paged_attention", spec, calls)


def _paged_inputs(
    spec: PagedAttentionSpec, rng: np.random.Generator, sequences: Sequences
) -> tuple[RandomArray, RandomArray, RandomArray, Array, Array, Array]:
    """Queries, keys and values as yet to be drawn, and who reads which of them."""
    pages = [-(-context // spec.page_size) for _, context in sequences]
    table = np.zeros((len(sequences), max(pages)), np.int32)
    free = rng.permutation(sum(pages)).astype(np.int32)
    for i, count in enumerate(pages):
        table[i, :count], free = free[:count], free[count:]
    slabs = num_slabs(sum(pages), spec.kv_heads)
    new = [count for count, _ in sequences]
    pool = "uint16" if spec.kv_dtype == "bfloat16" else spec.kv_dtype
    return (
        RandomArray((sum(new), spec.row_width), "float32"),
        RandomArray((slabs, spec.key_dim, spec.page_size), pool),
        RandomArray((slabs, spec.page_size, spec.value_dim), pool),
        table,
        np.cumsum([0, *new]).astype(np.int32),
        np.array([context for _, context in sequences], np.int32),
    )
