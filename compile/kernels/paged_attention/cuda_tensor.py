"""Paged attention on tensor cores, from a 16-bit cache: online softmax over pages.

A tile is 16 rows a warp; a row is a token and one of the query heads that share a KV head, so that
heads load keys and values together. S = Q K^T by pages, P = exp(S - max) stays in registers and is
the left operand of P V, as in FlashAttention-2. Queries are two 16-bit numbers each, high and low
part: else their rounding would count as often as the score is large. P is rounded to 16 bits.

Many rows: a block has four warps and walks the whole visible context. Few rows: one warp, and each
block walks a span of positions; a second kernel adds the spans up (`cuda_combine.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP, launch
from ingot.compile.kernels.paged_attention.cuda_block import BlockAttention
from ingot.compile.kernels.paged_attention.cuda_combine import combine
from ingot.compile.kernels.paged_attention.cuda_shape import Shape, Spans
from ingot.compile.kernels.paged_attention.cuda_tensors import Tensors
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.tensor_core import ROWS
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index
from ingot.targets import Target

# Where nothing was measured:
SPAN = 128  # positions; a multiple of every page size
MAX_STAGES = 3


@dataclass(frozen=True, slots=True)
class Partials:
    """What each span gives for each row and head: sums of P V, the maximum and the sum of P."""

    outputs: Buffer
    largest: Buffer
    totals: Buffer


def attend_whole(spec: PagedAttentionSpec, tensors: Tensors, target: Target) -> None:
    """Emit the kernel for many rows."""
    shape = shape_of(spec, target.size("attention_warps", guessed_warps(spec)), target)
    tiles = _tiles(spec, tensors, shape)
    with launch(tiles, shape.warps * WARP, index(spec.kv_heads)) as (block, kv_head, thread):
        # A prompt's last rows see most of it: they begin first, so that none is waited for alone.
        BlockAttention(spec, tensors, shape, tiles - 1 - block, kv_head, thread).run()


def attend_split(spec: PagedAttentionSpec, tensors: Tensors, target: Target) -> None:
    """Emit both kernels for few rows."""
    shape = shape_of(spec, 1, target)
    cut = Spans(target.size("attention_span", SPAN), spec.page_size)
    spans = cut.most(tensors.p * spec.page_size)
    rows = tensors.n * spec.num_heads
    partials = Partials(
        T.alloc_buffer((rows, spans, spec.value_dim), "float32"),
        T.alloc_buffer((rows, spans), "float32"),
        T.alloc_buffer((rows, spans), "float32"),
    )
    tiles = _tiles(spec, tensors, shape)
    with launch(spans * spec.kv_heads, WARP, tiles) as (block, tile, thread):
        kv_head, span = tirx.floormod(block, spec.kv_heads), tirx.floordiv(block, spec.kv_heads)
        BlockAttention(spec, tensors, shape, tile, kv_head, thread).run_span(span, cut, partials)
    combine(spec, tensors, cut, partials)


def guessed_warps(spec: PagedAttentionSpec) -> int:
    """Of a block that walks its whole context."""
    return 4 if spec.key_dim <= 128 else 2


def shape_of(spec: PagedAttentionSpec, warps: int, target: Target) -> Shape:
    """As many pages under way as fit into the shared memory."""
    one = Shape(spec, warps, 1)
    room = target.shared_memory_bytes // 16 - one.query_vectors
    most = target.size("attention_stages", MAX_STAGES)
    return Shape(spec, warps, max(2, min(most, room // one.page_vectors)))


def _tiles(spec: PagedAttentionSpec, tensors: Tensors, shape: Shape) -> Expr:
    """At least as many as there are: each sequence may leave its last one partly empty."""
    return tirx.floordiv(tensors.n * spec.group, shape.warps * ROWS) + tensors.b
