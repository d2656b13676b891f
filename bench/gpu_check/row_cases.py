"""The kernels beside matmul and attention that a check runs: each row, or element, by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ingot.bench.gpu_check.case import Array, Case, Inputs
from ingot.compile.kernels import build_kernel, matmul
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

Drawn = tuple[list[Array], list[Array]]
"""A kernel's inputs, and the outputs that are right."""


def make_row_cases(target: Target, *, small: bool) -> Iterator[Case]:
    tokens, width, vocabulary, size = (5, 72, 40, 16) if small else (512, 4096, 4096, 128)
    for kind in ("rms", "layer"):
        of = NormSpec(kind, width, 1e-5, has_bias=kind == "layer", residual=True)
        yield _case(f"norm {kind}", "norm", of, partial(_draw_norm, of, tokens))
    for gate in ("silu", "gelu_tanh"):
        draw = partial(_draw_activation, gate, tokens, width)
        yield _case(gate, "activation", ActivationSpec(gate, width, "separate"), draw)
    draw = partial(_draw_gathered, tokens, width)
    yield _case("gather_rows", "gather_rows", GatherRowsSpec(width), draw, bound=0.0)
    for code in ("bf16", "q8", "q8_g32"):
        table = EmbeddingSpec(vocabulary, width, FORMATS[code])
        draw = partial(_draw_embedded, table, target, tokens)
        yield _case(f"embedding {code}", "embedding", table, draw)
    turn = RopeSpec(KV_HEADS, size, size)
    yield _case("rope", "rope", turn, partial(_draw_turned, turn, tokens))
    for dtype in ("float16", "bfloat16"):
        pool = KvWriteSpec(KV_HEADS, size, size, dtype, target.page_size_tokens)
        yield _case(f"kv_write {dtype}", "kv_write", pool, partial(_draw_written, pool), bound=0.0)


def _case(
    name: str,
    operator: str,
    spec: Any,
    draw: Callable[[np.random.Generator], Drawn],
    *,
    bound: float = BOUND,
) -> Case:
    """One call, whose bound is of the largest value of an output."""

    def calls(rng: np.random.Generator) -> Iterator[Inputs]:
        arrays, right = draw(rng)
        expected = tuple(
            out.astype(np.float32) if out.dtype == np.float64 else out for out in right
        )
        largest = max(float(np.abs(out).max()) for out in expected)
        moved = sum(array.nbytes for array in (*arrays, *expected))
        yield Inputs(f"{len(arrays[0])} rows", arrays, 0, moved, expected, bound * largest)

    return Case(name, partial(build_kernel, operator, spec), calls)


def _draw_norm(spec: NormSpec, tokens: int, rng: np.random.Generator) -> Drawn:
    x, residual = rng.standard_normal((2, tokens, spec.width), np.float32)
    weight, bias = rng.standard_normal((2, spec.width), np.float32)
    factors = [weight, bias] if spec.has_bias else [weight]
    return [x, residual, *factors], [*norm.reference(spec, x, residual, *factors)]


def _draw_activation(kind: str, tokens: int, width: int, rng: np.random.Generator) -> Drawn:
    rows = [*rng.standard_normal((2, tokens, width), np.float32)]
    return rows, [activation.reference(kind, *rows)]


def _draw_gathered(tokens: int, width: int, rng: np.random.Generator) -> Drawn:
    rows = rng.standard_normal((tokens, width), np.float32)
    last = rng.permutation(tokens)[: tokens // 2].astype(np.int32)
    return [rows, last], [rows[last]]


def _draw_embedded(
    spec: EmbeddingSpec, target: Target, tokens: int, rng: np.random.Generator
) -> Drawn:
    table = rng.standard_normal((spec.vocab_size, spec.hidden_size), np.float32)
    ids = rng.integers(0, spec.vocab_size, tokens).astype(np.int32)
    packed = matmul.pack(table, spec.table, target)
    return [ids, *packed], [embedding.embedding(ids, table, spec.format)]


def _draw_turned(spec: RopeSpec, tokens: int, rng: np.random.Generator) -> Drawn:
    x = rng.standard_normal((tokens, spec.num_heads * spec.head_dim), np.float32)
    angles = rng.standard_normal((tokens, spec.cos_width), np.float32)
    waves = [np.cos(angles), np.sin(angles)]
    return [x, *waves], [rope.reference(spec, x, *waves)]


def _draw_written(spec: KvWriteSpec, rng: np.random.Generator) -> Drawn:
    """As many tokens as fill all pages, in any order."""
    tokens, slabs = PAGES_SIDE_BY_SIDE * spec.page_size, num_slabs(PAGES_SIDE_BY_SIDE, KV_HEADS)
    key, value = rng.standard_normal((2, tokens, KV_HEADS, spec.key_dim), np.float32)
    slots = rng.permutation(tokens).astype(np.int32)
    shapes = (slabs, spec.key_dim, spec.page_size), (slabs, spec.page_size, spec.value_dim)
    pools = [kv_write.to_kv_dtype(np.zeros(shape, np.float32), spec.kv_dtype) for shape in shapes]
    key_pool, value_pool = pools
    kv_write.reference(key, value, slots, key_pool, value_pool, spec.kv_dtype)
    return [key.reshape(tokens, -1), value.reshape(tokens, -1), slots], pools
