"""Attention over pages against float64, and the same bits however a row is batched or chunked."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from ingot.compile.kernels.kv_write.reference import from_kv_dtype, to_kv_dtype
from ingot.compile.kernels.paged_attention.cpu import PagedAttentionSpec
from ingot.compile.kernels.paged_attention.cuda import has_tensor_kernels
from ingot.compile.kernels.paged_attention.cuda_shape import MOST_SPANS, Spans
from ingot.compile.kernels.paged_attention.reference import reference
from ingot.compile.kernels.paged_attention.spec import has_pairs
from ingot.compile.kernels.paged_attention.tiles import choose_tiles
from ingot.compile.kernels.rope.reference import reference as rotate
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.kernels.vector_ir import index
from ingot.runtime.artifact.kv_layout import num_slabs, slab_index
from ingot.targets import Target, load_targets
from tests.compile.kernels.conftest import Compiled, compile_op, in_pairs, normal
from tests.tolerances import assert_close

PLAIN = PagedAttentionSpec(14, 2, 64, 64, 0.125)
BFLOAT16 = replace(PLAIN, kv_dtype="bfloat16")
# Head sizes, ratios of heads, types and masks; each runs on one of the two targets.
VARIANTS = (
    PagedAttentionSpec(4, 4, 80, 80, 0.1, window=37, kv_dtype="bfloat16"),
    PagedAttentionSpec(
        8,
        1,
        16,
        24,
        0.3,
        chunk=40,
        softcap=5.0,
        has_sinks=True,
        kv_dtype="float16",
        page_size=16,
        row_width=200,
        column_offset=9,
    ),
    PagedAttentionSpec(8, 2, 96, 96, 0.1, has_slopes=True),
    PagedAttentionSpec(4, 1, 256, 128, 0.06, causal=False),
    PagedAttentionSpec(8, 1, 128, 128, 0.09, window=512, softcap=30.0),
    PagedAttentionSpec(5, 1, 8, 8, 0.4, has_sinks=True, has_slopes=True),
    PagedAttentionSpec(
        6,
        2,
        32,
        96,
        0.2,
        window=50,
        softcap=5.0,
        has_sinks=True,
        has_slopes=True,
        kv_dtype="bfloat16",
        page_size=16,
    ),
)
# (new tokens, tokens in the cache after them)
BATCHES = (
    [(1, 1)],
    [(5, 5)],
    [(1, 31), (1, 32), (1, 33), (40, 40), (7, 100), (0, 5), (1, 700), (3, 520)],
    [(300, 600)],
    [(1, 1700)],
    [(2, 1100), (0, 3)],
    [],
)
# An emulated GPU is slow.
EMULATED_BATCHES = (
    [(1, 1)],
    [(5, 5)],
    [(1, 31), (1, 32), (1, 33), (9, 40), (0, 5), (1, 300), (3, 65)],
    [(70, 90), (2, 200)],  # more rows than split their context
    [],
)


@dataclass
class Batch:
    """The kernel's arguments for some sequences; slots past a context hold not-a-number."""

    query: np.ndarray
    pools: tuple[np.ndarray, np.ndarray]
    page_table: np.ndarray
    query_offsets: np.ndarray
    context_lengths: np.ndarray
    extra: list[np.ndarray]

    def run(self, attend: Compiled, spec: PagedAttentionSpec) -> np.ndarray:
        out = np.full((len(self.query), spec.num_heads * spec.value_dim), np.nan, np.float32)
        return attend(*self.arguments(), *self.extra, out)[-1]

    def arguments(self) -> list[np.ndarray]:
        tables = [self.page_table, self.query_offsets, self.context_lengths]
        return [self.query, *self.pools, *tables]

    def reference(self, spec: PagedAttentionSpec) -> np.ndarray:
        extra = list(self.extra)
        sinks = extra.pop(0) if spec.has_sinks else None
        slopes = extra.pop(0) if spec.has_slopes else None
        return reference(spec, *self.arguments(), sinks, slopes)

    def rows(self, sequence: int, new_tokens: int, context: int) -> "Batch":
        """One sequence alone: `new_tokens` query rows that end at `context`."""
        end = self.query_offsets[sequence + 1] - (self.context_lengths[sequence] - context)
        return replace(
            self,
            query=self.query[end - new_tokens : end],
            page_table=self.page_table[sequence : sequence + 1],
            query_offsets=np.array([0, new_tokens], np.int32),
            context_lengths=np.array([context], np.int32),
        )


def make_batch(spec: PagedAttentionSpec, sequences: list[tuple[int, int]]) -> Batch:
    pages_of = [-(-context // spec.page_size) for _, context in sequences]
    num_pages = sum(pages_of) + 3
    order = np.random.permutation(num_pages)
    table = np.zeros((len(sequences), max(pages_of, default=0) + 1), np.int32)
    slabs, heads = num_slabs(num_pages, spec.kv_heads), np.arange(spec.kv_heads)
    key = normal(slabs, spec.key_dim, spec.page_size)
    value = normal(slabs, spec.page_size, spec.value_dim)
    for i, (number, (_, context)) in enumerate(zip(pages_of, sequences, strict=True)):
        table[i, :number], order = order[:number], order[number:]
        if unused := number * spec.page_size - context:
            last = slab_index(table[i, number - 1], heads, spec.kv_heads)
            key[last, :, -unused:] = np.nan
            value[last, -unused:] = np.nan
    new_tokens = [new for new, _ in sequences]
    extra = [normal(spec.num_heads)] if spec.has_sinks else []
    extra += [np.abs(normal(spec.num_heads))] if spec.has_slopes else []
    return Batch(
        query=normal(sum(new_tokens), spec.row_width) * 2,
        pools=(to_kv_dtype(key, spec.kv_dtype), to_kv_dtype(value, spec.kv_dtype)),
        page_table=table,
        query_offsets=np.cumsum([0, *new_tokens]).astype(np.int32),
        context_lengths=np.array([context for _, context in sequences], np.int32),
        extra=extra,
    )


@cache
def compiled(spec: PagedAttentionSpec, target: Target) -> Compiled:
    """The kernel, which takes pools as the reference does whatever the target makes of them."""
    attend = compile_op("paged_attention", spec, target)
    if not holds_pairs(spec, target):
        return attend
    return lambda q, *rest: attend(q, *map(in_pairs, rest[:2]), *rest[2:])


def holds_pairs(spec: PagedAttentionSpec, target: Target) -> bool:
    return has_pairs(spec.kv_dtype, spec.key_dim, spec.value_dim, target)


def values_of(batch: Batch, spec: PagedAttentionSpec) -> np.ndarray:
    return from_kv_dtype(batch.pools[1], spec.kv_dtype)


def check(spec: PagedAttentionSpec, target: Target) -> None:
    for sequences in BATCHES if target.kind == "cpu" else EMULATED_BATCHES:
        batch = make_batch(spec, sequences)
        got = batch.run(compiled(spec, target), spec)
        if holds_pairs(spec, target):
            rounded = from_kv_dtype(to_kv_dtype(batch.query, "bfloat16"), "bfloat16")
            batch = replace(batch, query=rounded.astype(np.float32))
            largest = float(np.abs(np.nan_to_num(values_of(batch, spec))).max(initial=1.0))
            assert_close(got, batch.reference(spec), "bfloat16 attention", largest)
        elif target.kind == "cuda" and has_tensor_kernels(spec):
            largest = float(np.abs(np.nan_to_num(values_of(batch, spec))).max(initial=1.0))
            assert_close(got, batch.reference(spec), f"{spec.kv_dtype} attention", largest)
        else:
            assert_close(got, batch.reference(spec), "attention")


@pytest.mark.parametrize("spec", [PLAIN, BFLOAT16])
def test_plain(spec: PagedAttentionSpec, target: Target) -> None:
    check(spec, target)


@pytest.mark.parametrize("i", range(len(VARIANTS)))
def test_variants(i: int, wide_target: Target, narrow_target: Target, gpu_target: Target) -> None:
    check(VARIANTS[i], narrow_target if i % 2 else wide_target)
    check(VARIANTS[i], gpu_target)


@pytest.mark.parametrize("spec", [PLAIN, BFLOAT16])
def test_a_row_has_the_same_bits_in_any_batch(spec: PagedAttentionSpec, target: Target) -> None:
    # On a GPU all of it goes to one kernel: that for few rows, which splits contexts always alike.
    n = 700 if target.kind == "cpu" else 20
    attend, sequences = compiled(spec, target), [(n, n), (1, 2 * n), (9, 64)] + [(1, 40)] * 33
    batch = make_batch(spec, sequences)
    together = batch.run(attend, spec)  # enough blocks: no context is split over cores
    for i in range(3):
        new, context = sequences[i]
        first, last = batch.query_offsets[i : i + 2]
        alone = batch.rows(i, new, context).run(attend, spec)
        np.testing.assert_array_equal(alone, together[first:last])
    whole = together[:n]
    cut = n // 5
    chunks = [batch.rows(0, m, end).run(attend, spec) for m, end in ((cut, cut), (n - cut, n))]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    for position in {p for p in (0, 31, 32, 511, 512, n - 1) if p < n}:
        decoded = batch.rows(0, 1, position + 1).run(attend, spec)
        np.testing.assert_array_equal(decoded[0], whole[position])


def test_spans_of_short_and_long_contexts(gpu_target: Target) -> None:
    """Contexts around the lengths at which spans get longer; none has more than are added up."""
    target = replace(gpu_target, tuned=(("attention_span", 32),))
    spec = PagedAttentionSpec(2, 1, 16, 16, 0.3, kv_dtype="bfloat16", page_size=16)
    cut = Spans(32, spec.page_size)
    longest = MOST_SPANS * cut.tokens
    sequences = [(1, n) for n in (1, 255, 257, longest - 1)] + [(2, longest + 1), (1, 2 * longest)]
    batch = make_batch(spec, sequences)
    got = batch.run(compiled(spec, target), spec)
    largest = float(np.abs(np.nan_to_num(values_of(batch, spec))).max())
    assert_close(got, batch.reference(spec), "bfloat16 attention", largest)
    for n, length in ((1, 16), (17, 16), (256, 16), (257, 32), (longest, 32), (longest + 1, 64)):
        picked = cut.length(index(n))
        assert int(picked.true_value if picked.condition else picked.false_value) == length


def test_rows_of_no_sequence_are_left_alone(target: Target) -> None:
    batch = make_batch(PLAIN, [(2, 40)])
    batch.query = np.concatenate([batch.query, normal(50, PLAIN.row_width)])
    got = batch.run(compiled(PLAIN, target), PLAIN)
    assert np.isfinite(got[:2]).all() and np.isnan(got[2:]).all()


@pytest.mark.parametrize("kv_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "rope",
    [
        RopeSpec(6, 32, 32, row_width=200, column_offset=4),
        RopeSpec(6, 32, 16, cos_width=8, row_width=200, column_offset=4),
        RopeSpec(6, 32, 32, interleaved=True, cos_width=16, row_width=200, column_offset=4),
    ],
)
def test_a_gpu_rotates_queries_where_it_loads_them(
    rope: RopeSpec, kv_dtype: Any, gpu_target: Target
) -> None:
    plain = PagedAttentionSpec(6, 2, 32, 32, 0.2, kv_dtype=kv_dtype)
    rotating = replace(plain, rope=rope, row_width=200, column_offset=4)
    for sequences in ([(5, 5)], [(1, 31), (70, 90)]):
        batch = make_batch(rotating, sequences)
        cos, sin = (normal(len(batch.query), rope.cos_width) for _ in range(2))
        got = replace(batch, extra=[cos, sin]).run(compiled(rotating, gpu_target), rotating)
        turned = rotate(rope, batch.query, cos, sin).astype(np.float32)
        want = replace(batch, query=turned).reference(plain)
        tolerance = "attention" if kv_dtype == "float32" else f"{kv_dtype} attention"
        largest = float(np.abs(np.nan_to_num(values_of(batch, plain))).max(initial=1.0))
        assert_close(got, want, tolerance, largest)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 7, 8, 12, 16, 48, 71])
def test_tiles_fit_the_registers(group: int) -> None:
    for target in load_targets().values():
        if target.kind != "cpu":
            continue
        for block_tokens in (None, 1):
            spec = PagedAttentionSpec(group, 1, 128, 80, 1.0)
            tiles = choose_tiles(spec, target, block_tokens=block_tokens)
            assert tiles.rows >= tiles.block_tokens * group
            assert tiles.tile_rows % tiles.value_rows == 0
            widest = max(map(len, tiles.value_chunks))
            assert tiles.value_rows * widest + widest + 2 <= target.vector_registers
            assert 2 * tiles.tile_rows + 4 <= target.vector_registers
