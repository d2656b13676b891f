"""out = softmax(mask(softcap(scale * q k^T) + slope * key position)) v over a paged KV cache.

q: [n, row_width] float32, heads side by side from `column_offset`; key_pool: [slab, key_dim, slot],
so that q k^T runs over tokens in vector lanes; value_pool: [slab, slot, value_dim]
(`runtime/artifact/kv_layout.py` says which slab); out: [n, num_heads * value_dim]. Keys and values
of the new tokens are in the pools.

One function serves prefill, chunked prefill and decode. Work is cut into blocks: up to
`block_tokens` consecutive query tokens of one sequence times the query heads that share one KV head
are the rows of two small matmuls per page, so a page is read once for all of them. A decode step
(one token) has a copy of the code with just the rows it needs.

Where the CPU multiplies pairs of bfloat16 (`has_pairs`), pools hold pairs, and queries and weights
are rounded to bfloat16; else everything is widened to float32.

The result of a row depends on nothing but its own sequence (batch invariance): softmax takes a new
maximum for one run of `RUN_TOKENS` positions after the other within fixed spans of `SPAN_TOKENS`,
and spans are merged in order. Whether spans are walked by one core or spread over many (few blocks,
long context), the operations on a row and their order are the same; rows of a tile share loads,
never sums; pages that are masked for a row change nothing, exactly: their weights are 0 and the
rescaling factor is 1.
"""

from __future__ import annotations

from contextlib import nullcontext

from tvm import tirx

from ingot.compile.kernels.bfloat16_dot import bfloat16_functions
from ingot.compile.kernels.paged_attention.arithmetic import MultiplyAdds, PairProducts
from ingot.compile.kernels.paged_attention.block import BlockKernel
from ingot.compile.kernels.paged_attention.rows import Tensors
from ingot.compile.kernels.paged_attention.softmax import SpanMerger
from ingot.compile.kernels.paged_attention.spec import SPAN_TOKENS, PagedAttentionSpec, has_pairs
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

__all__ = ["PagedAttentionSpec", "build"]

# With fewer blocks than this a step is spread over the spans of its contexts too.
ENOUGH_BLOCKS = 64
# Unless what the spans leave behind would take more than 64 MiB.
MAX_PARTIALS = 1 << 24


def build(spec: PagedAttentionSpec, target: Target) -> tirx.PrimFunc:
    """(q, key_pool, value_pool, page_table, query_offsets, context_lengths,
    [sinks,] [slopes,] out) -> nothing; writes the rows of out that belong to a sequence."""
    n, b, p, slabs = count("n"), count("b"), count("p"), count("num_slabs")
    b_plus_1 = count("b_plus_1")
    dtype = pool_dtype(spec.kv_dtype)
    heads, kv_heads = spec.num_heads, spec.kv_heads
    prefill = choose_tiles(spec, target, block_tokens=None)
    decode = choose_tiles(spec, target, block_tokens=1)
    with kernel("paged_attention") as k:
        tensors = Tensors(
            q=k.argument("q", (n, spec.row_width)),
            key_pool=k.argument("key_pool", (slabs, spec.key_dim, spec.page_size), dtype),
            value_pool=k.argument("value_pool", (slabs, spec.page_size, spec.value_dim), dtype),
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
        partial_rows, width = n * heads * num_spans, decode.partial_width
        enough_blocks = target.size("attention_enough_blocks", ENOUGH_BLOCKS)
        is_split = tirx.And(num_blocks * kv_heads < enough_blocks, num_spans > 1)
        is_split = tirx.And(is_split, partial_rows * width <= MAX_PARTIALS)
        split = tirx.Select(is_split, num_spans, index(1))
        partial_rows = tirx.Max(tirx.Select(is_split, partial_rows, index(1)), index(1))
        partials = T.alloc_buffer((partial_rows, width))
        # Registers from here on: TVM's passes are slow on what they can see through.
        spans = let(num_spans, 1, "int64")
        merger = SpanMerger(spec, tensors, partials, spans, prefill.lanes)
        pairs = has_pairs(spec.kv_dtype, spec.key_dim, spec.value_dim, target)
        arithmetic = PairProducts() if pairs else MultiplyAdds(spec.kv_dtype)
        num_blocks = let(num_blocks, 1, "int64")
        blocks = BlockKernel(spec, tensors, arithmetic, merger, num_blocks)
        splits = let(split, 1, "int64")
        with bfloat16_functions(target) if pairs else nullcontext():
            with T.parallel(num_blocks * kv_heads * split) as item:
                blocks.attend(item, splits, prefill, decode)
        with otherwise_if(splits > 1), T.parallel(n * heads) as item:
            merger.merge_row(tirx.floordiv(item, heads), tirx.floormod(item, heads))
    return k.function
