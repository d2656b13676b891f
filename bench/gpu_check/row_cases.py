"""The kernels beside matmul and attention that a check runs: each row, or element, by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ingot.bench.gpu_check.case import Array, Case, Inputs
from ingot.compile.kernels import matmul
from ingot.compile.kernels.activation import reference as activation
from ingot.compile.kernels.activation.spec import ActivationSpec
from ingot.compile.kernels.embedding import reference as embedding
from ingot.compile.kernels.embedding.spec import EmbeddingSpec
from ingot.compile.kernels.gather_rows.spec import GatherRowsSpec
from ingot.compile.kernels.kv_write import reference as kv_write
from ingot.compile.kernels.kv_write.spec import KvWriteSpec
from ingot.compile.kernels.norm import reference as norm
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.rope import reference as rope
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.schemes import FORMATS
from ingot.runtime.artifact.kv_layout import PAGES_SIDE_BY_SIDE, num_slabs
from ingot.targets import Target

BOUND = 4e-6  # of the largest value, where float32 is rounded at all
KV_HEADS = 8


def make_row_cases(target: Target, rng: np.random.Generator, *, small: bool) -> Iterator[Case]:
    tokens, width, vocabulary, size = (5, 72, 40, 16) if small else (512, 4096, 4096, 128)
    rows = [rng.standard_normal((tokens, width), np.float32) for _ in range(2)]
    weight, bias = rng.standard_normal((2, width), np.float32)
    for kind in ("rms", "layer"):
        has_bias = kind == "layer"
        spec = NormSpec(kind, width, 1e-5, has_bias=has_bias, residual=True)
        x, residual = rows
        right = norm.reference(spec, x, residual, weight, bias if has_bias else None)
        yield _case(f"norm {kind}", "norm", spec, [*rows, weight, *[bias] * has_bias], right)
    for kind in ("silu", "gelu_tanh"):
        of = ActivationSpec(kind, width, "separate")
        yield _case(kind, "activation", of, rows, [activation.reference(kind, *rows)])
    last = rng.permutation(tokens)[: tokens // 2].astype(np.int32)
    gathered = [rows[0][last]]
    yield _case("gather_rows", "gather_rows", GatherRowsSpec(width), [rows[0], last], gathered, 0.0)
    table = rng.standard_normal((vocabulary, width), np.float32)
    ids = rng.integers(0, vocabulary, tokens).astype(np.int32)
    for code in ("bf16", "q8", "q8_g32"):
        place = EmbeddingSpec(vocabulary, width, FORMATS[code])
        packed = matmul.pack(table, place.table, target)
        found = [embedding.embedding(ids, table, place.format)]
        yield _case(f"embedding {code}", "embedding", place, [ids, *packed], found)
    turn = RopeSpec(KV_HEADS, size, size)
    x = rng.standard_normal((tokens, KV_HEADS * size), np.float32)
    angles = rng.standard_normal((tokens, size), np.float32)
    waves = [np.cos(angles), np.sin(angles)]
    yield _case("rope", "rope", turn, [x, *waves], [rope.reference(turn, x, *waves)])
    for dtype in ("float16", "bfloat16"):
        yield _kv_write(dtype, size, target, rng)


def _kv_write(dtype: str, size: int, target: Target, rng: np.random.Generator) -> Case:
    """As many tokens as fill all pages, in any order."""
    page = target.page_size_tokens
    spec = KvWriteSpec(KV_HEADS, size, size, dtype, page)
    tokens, slabs = PAGES_SIDE_BY_SIDE * page, num_slabs(PAGES_SIDE_BY_SIDE, KV_HEADS)
    key, value = rng.standard_normal((2, tokens, KV_HEADS, size), np.float32)
    slots = rng.permutation(tokens).astype(np.int32)
    pools = [
        kv_write.to_kv_dtype(np.zeros(shape, np.float32), dtype)
        for shape in ((slabs, size, page), (slabs, page, size))
    ]
    key_pool, value_pool = pools
    kv_write.reference(key, value, slots, key_pool, value_pool, dtype)
    rows = [x.reshape(tokens, -1) for x in (key, value)]
    return _case(f"kv_write {dtype}", "kv_write", spec, [*rows, slots], pools, 0.0)


def _case(
    name: str,
    operator: str,
    spec: Any,
    arrays: Sequence[Array],
    right: Sequence[Array],
    bound: float = BOUND,
) -> Case:
    """One call, whose bound is of the largest value of an output."""
    expected = tuple(out.astype(np.float32) if out.dtype == np.float64 else out for out in right)
    largest = max(float(np.abs(out).max()) for out in expected)
    moved = sum(array.nbytes for array in (*arrays, *expected))
    label = f"{len(arrays[0])} rows"
    return Case(
        name, operator, spec, [Inputs(label, [*arrays], 0, moved, expected, bound * largest)]
    )
