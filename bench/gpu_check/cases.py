"""The kernels that a check runs: operator, spec, inputs at random, right answers, how far off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ingot.bench.gpu_check.case import Array, Case, Inputs
from ingot.bench.gpu_check.row_cases import make_row_cases
from ingot.bench.gpu_check.sampling_cases import make_sampling_cases
from ingot.compile.kernels import build_kernel, matmul
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


def attention_label(sequences: Sequences) -> str:
    return f"{sum(new for new, _ in sequences)} rows, context {sequences[0][1]}"


def make_cases(target: Target, *, small: bool = False) -> Iterator[Case]:
    """All cases; `small` ones are for emulated GPUs, and as many."""
    features, inputs = (48, 300) if small else (3072, 4096)
    rows = (1, 9) if small else (1, 7, 16, 64, 65, 512)
    for code in ("f32", "f16", "bf16", "q8_g32", "q4_s128", "f8"):
        linear = LinearSpec(features, inputs, FORMATS[code], "float32", True)
        build = partial(build_kernel, "matmul", linear)
        yield Case(f"linear {code}", build, _Linear(linear, target, rows))
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
        build = partial(build_kernel, "paged_attention", attention)
        yield Case(f"attention {dtype}", build, _Attention(attention, target, small))
    yield from make_row_cases(target, small=small)
    yield from make_sampling_cases(small=small)


@dataclass(frozen=True, slots=True)
class _Linear:
    """The calls of a linear with random weights."""

    spec: LinearSpec
    target: Target
    rows: tuple[int, ...]

    def __call__(self, rng: np.random.Generator) -> Iterator[Inputs]:
        spec, target = self.spec, self.target
        weight = rng.standard_normal((spec.out_features, spec.in_features), np.float32)
        bias = rng.standard_normal(spec.out_features, np.float32)
        packed = matmul.pack(weight, spec, target)
        really = matmul.effective_activations(spec, target)
        share = FLOAT8_BOUND if really == "float8" else LINEAR_BOUND
        operations = cost_of("matmul", spec, target).operations_per_row or 0
        for n in self.rows:
            x = rng.standard_normal((n, spec.in_features), np.float32)
            want = reference.linear(x, weight, bias, spec.format, really).astype(np.float32)
            yield Inputs(
                f"{n} rows",
                [x, *packed, bias],
                operations * n,
                sum(tensor.nbytes for tensor in packed),
                (want,),
                share * float(np.abs(want).max()),
            )


@dataclass(frozen=True, slots=True)
class _Attention:
    """Calls with right answers; those of a prompt and a batch that decodes are only timed, which
    would take the reference long."""

    spec: PagedAttentionSpec
    target: Target
    small: bool

    def __call__(self, rng: np.random.Generator) -> Iterator[Inputs]:
        checked = (
            [[(1, 40), (1, 300)], [(70, 90)]] if self.small else [[(1, 1000)] * 8, [(512, 1024)]]
        )
        timed = [[(64, 64)], [(1, 64)] * 2] if self.small else [PROMPT, DECODING]
        spec = self.spec
        cost = cost_of("paged_attention", spec, self.target)
        for sequences in (*checked, *timed):
            arrays = _paged_inputs(spec, rng, sequences)
            want: tuple[Array, ...] = ()
            out_shape: tuple[int, ...] = ()
            if sequences in checked:
                want = (attention_reference(spec, *arrays).astype(np.float32),)
            else:
                out_shape = (len(arrays[0]), spec.num_heads * spec.value_dim)
            pairs = sum(new * (2 * context - new + 1) // 2 for new, context in sequences)
            yield Inputs(
                attention_label(sequences),
                [*arrays],
                cost.operations_per_pair * pairs,
                cost.kv_per_context * sum(context for _, context in sequences),
                want,
                ATTENTION_BOUNDS[spec.kv_dtype] * 5,
                timed_out_shape=out_shape,
            )


def _paged_inputs(
    spec: PagedAttentionSpec, rng: np.random.Generator, sequences: Sequences
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Queries, keys and values, and who reads which of them."""
    pages = [-(-context // spec.page_size) for _, context in sequences]
    table = np.zeros((len(sequences), max(pages)), np.int32)
    free = rng.permutation(sum(pages)).astype(np.int32)
    for i, count in enumerate(pages):
        table[i, :count], free = free[:count], free[count:]
    slabs = num_slabs(sum(pages), spec.kv_heads)
    new = [count for count, _ in sequences]
    query = rng.standard_normal((sum(new), spec.row_width), np.float32)
    shapes = (slabs, spec.key_dim, spec.page_size), (slabs, spec.page_size, spec.value_dim)
    key, value = (
        to_kv_dtype(rng.standard_normal(shape, np.float32), spec.kv_dtype) for shape in shapes
    )
    starts = np.cumsum([0, *new]).astype(np.int32)
    return query, key, value, table, starts, np.array([c for _, c in sequences], np.int32)
