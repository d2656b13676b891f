"""out = softmax(mask(softcap(scale * q k^T) + slope * key position)) v over a paged KV cache.

q: [n, row_width] float32, heads side by side from `column_offset`; key_pool: [page, kv_head,
key_dim, slot], so that q k^T runs over tokens in vector lanes; value_pool: [page, kv_head, slot,
value_dim]; out: [n, num_heads * value_dim]. Keys and values of the new tokens are in the pools.

One function serves prefill, chunked prefill and decode. Work is cut into blocks: up to
`block_tokens` consecutive query tokens of one sequence times the query heads that share one KV head
are the rows of two small matmuls per page, so a page is read once for all of them. A decode step
(one token) has a copy of the code with just the rows it needs.

The result of a row depends on nothing but its own sequence (batch invariance): softmax runs page by
page within fixed spans of `SPAN_TOKENS` positions, and spans are merged in order. Whether spans are
walked by one core or spread over many (few blocks, long context), the operations on a row and their
order are the same; rows of a tile share loads, never sums; pages that are masked for a row change
nothing, exactly: their weights are 0 and the rescaling factor is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm import tirx

from ingot.compile.kernels.paged_attention.block import BlockKernel, Tensors
from ingot.compile.kernels.paged_attention.tiles import choose_tiles
from ingot.compile.kernels.vector_ir import (
    T,
    ceil_div,
    count,
    index,
    kernel,
    let,
    otherwise_if,
    pool_dtype,
)
from ingot.targets import Target

SPAN_TOKENS = 512  # a multiple of every page size; the unit in which a context is split over cores
# With fewer blocks than this a step is spread over the spans of its contexts too.
ENOUGH_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class PagedAttentionSpec:
    """What differs between attention layers. 0 means no window, no chunk, no softcap."""

    num_heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    scale: float
    window: int = 0  # a query at i sees keys j with i - j < window
    chunk: int = 0  # a query at i sees keys j with j // chunk == i // chunk
    softcap: float = 0.0
    causal: bool = True
    has_sinks: bool = False
    has_slopes: bool = False
    kv_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    page_size: int = 32
    row_width: int = 0
    column_offset: int = 0

    def __post_init__(self) -> None:
        if not self.row_width:
            object.__setattr__(self, "row_width", self.num_heads * self.key_dim)
        assert self.num_heads % self.kv_heads == 0, self
        assert SPAN_TOKENS % self.page_size == 0, self
        assert self.column_offset + self.num_heads * self.key_dim <= self.row_width, self

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.num_heads // self.kv_heads


def build(spec: PagedAttentionSpec, target: Target) -> tirx.PrimFunc:
    """(q, key_pool, value_pool, page_table, query_offsets, context_lengths,
    [sinks,] [slopes,] out) -> nothing; writes the rows of out that belong to a sequence."""
    n, b, p, pages = count("n"), count("b"), count("p"), count("num_pages")
    b_plus_1 = count("b_plus_1")
    dtype = pool_dtype(spec.kv_dtype)
    heads, kv_heads = spec.num_heads, spec.kv_heads
    prefill = choose_tiles(spec, target, block_tokens=None)
    decode = choose_tiles(spec, target, block_tokens=1)
    with kernel("paged_attention") as k:
        tensors = Tensors(
            q=k.argument("q", (n, spec.row_width)),
            key_pool=k.argument("key_pool", (pages, kv_heads, spec.key_dim, spec.page_size), dtype),
            value_pool=k.argument(
                "value_pool", (pages, kv_heads, spec.page_size, spec.value_dim), dtype
            ),
            page_table=k.argument("page_table", (b, p), "int32"),
            query_offsets=k.argument("query_offsets", (b_plus_1,), "int32"),
            context_lengths=k.argument("context_lengths", (b,), "int32"),
            sinks=k.argument("sinks", (heads,)) if spec.has_sinks else None,
            slopes=k.argument("slopes", (heads,)) if spec.has_slopes else None,
            out=k.argument("out", (n, heads * spec.value_dim)),
        )
        # Sequence s owns the blocks from offsets[s] // block_tokens + s on: at least as many as it
        # needs, found without a table.
        num_blocks = tirx.floordiv(n, prefill.block_tokens) + b
        num_spans = ceil_div(p * spec.page_size, SPAN_TOKENS)
        is_split = tirx.And(num_blocks * kv_heads < ENOUGH_BLOCKS, num_spans > 1)
        split = tirx.Select(is_split, num_spans, index(1))
        partial_rows = tirx.Select(split > 1, n * heads * split, index(1))
        partials = T.alloc_buffer((tirx.Max(partial_rows, index(1)), decode.partial_width))
        # Registers from here on: TVM's passes are slow on what they can see through.
        blocks = BlockKernel(
            spec,
            tensors,
            partials,
            num_blocks=let(num_blocks, 1, "int64"),
            num_spans=let(num_spans, 1, "int64"),
            span_tokens=SPAN_TOKENS,
        )
        splits = let(split, 1, "int64")
        with T.parallel(num_blocks * kv_heads * split) as item:
            blocks.attend(item, splits, prefill, decode)
        with otherwise_if(splits > 1), T.parallel(n) as row:
            blocks.merge_row(row, decode)
    return k.function
