"""Turns work items into blocks of query rows, and a block into pages, spans and rows of out."""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.paged_attention.arithmetic import Arithmetic
from ingot.compile.kernels.paged_attention.rows import Block, Rows, Tensors
from ingot.compile.kernels.paged_attention.run import RunKernel
from ingot.compile.kernels.paged_attention.softmax import Softmax, SpanMerger
from ingot.compile.kernels.paged_attention.spec import RUN_TOKENS, SPAN_TOKENS, PagedAttentionSpec
from ingot.compile.kernels.paged_attention.tiles import Tiles
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    T,
    ceil_div,
    index,
    let,
    load,
    maximum,
    minimum,
    otherwise_if,
    pieces,
    reduce_sum,
    splat,
)


class BlockKernel:
    """Emits the code of one block; holds what all blocks share."""

    def __init__(
        self,
        spec: PagedAttentionSpec,
        tensors: Tensors,
        arithmetic: Arithmetic,
        merger: SpanMerger,
        num_blocks: Expr,
    ) -> None:
        self._spec, self._tensors, self._merger = spec, tensors, merger
        self._arithmetic = arithmetic
        self._num_blocks = num_blocks
        self._rows = Rows(spec, tensors)
        self._span_pages = SPAN_TOKENS // spec.page_size
        self._run_pages = RUN_TOKENS // spec.page_size

    def attend(self, item: Expr, split: Expr, prefill: Tiles, decode: Tiles) -> None:
        """Attend for work item `item`: a block, or one span of a block where `split` is above 1."""
        offsets = self._tensors.query_offsets
        span = let(tirx.floormod(item, split), 1, "int64")
        # Each core gets neighbouring items. Later blocks of a prompt see more keys, so blocks are
        # taken from both ends in turn: every stretch of items is about equally much work.
        turn = let(tirx.floordiv(item, split * self._spec.kv_heads), 1, "int64")
        from_end = self._num_blocks - 1 - tirx.floordiv(turn, 2)
        is_even = tirx.floormod(turn, 2) == 0
        number = let(tirx.Select(is_even, tirx.floordiv(turn, 2), from_end), 1, "int64")
        kv_head = tirx.floormod(tirx.floordiv(item, split), self._spec.kv_heads)
        kv_head = let(kv_head, 1, "int64")
        size = prefill.block_tokens

        def first_block(sequence: Expr) -> Expr:
            return tirx.floordiv(index(offsets[sequence]), size) + sequence

        sequence = self._rows.last_at_most(number, first_block)
        start = let(index(offsets[sequence]), 1, "int64")
        length = let(index(offsets[sequence + 1]) - start, 1, "int64")
        skipped = let((number - first_block(sequence)) * size, 1, "int64")
        tokens = let(minimum(length - skipped, index(size)), 1, "int64")
        with T.If(tirx.And(length == 1, skipped == 0)):
            with T.Then():
                block = self._block(sequence, kv_head, start, index(0), index(1), decode)
                self._attend_block(block, span, split, decode)
            with T.Else(), otherwise_if(tokens > 0):
                block = self._block(sequence, kv_head, start, skipped, tokens, prefill)
                self._attend_block(block, span, split, prefill)

    def _block(
        self,
        sequence: Expr,
        kv_head: Expr,
        start: Expr,
        skipped: Expr,
        tokens: Expr,
        tiles: Tiles,
    ) -> Block:
        """The block of `tokens` query tokens of a sequence, whose rows of q begin at `start`, after
        its first `skipped`."""
        page_size = self._spec.page_size
        length = index(self._tensors.query_offsets[sequence + 1]) - start
        context = index(self._tensors.context_lengths[sequence])
        position = let(context - length + skipped, 1, "int64")
        num_rows = let(tokens * self._spec.group, 1, "int64")
        end_key = let(self._rows.end_key(position + tokens - 1, sequence), 1, "int64")
        return Block(
            sequence=sequence,
            kv_head=kv_head,
            first_row=let(start + skipped, 1, "int64"),
            first_position=position,
            num_rows=num_rows,
            num_tiles=let(ceil_div(num_rows, tiles.tile_rows), 1, "int64"),
            end_key=end_key,
            first_page=let(tirx.floordiv(self._rows.first_key(position), page_size), 1, "int64"),
            end_page=let(ceil_div(end_key, page_size), 1, "int64"),
        )

    def _attend_block(self, block: Block, span: Expr, split: Expr, tiles: Tiles) -> None:
        """All spans of a block, merged and written out; or span `span` of it, left as a partial."""
        group, value_dim, lanes = self._spec.group, self._spec.value_dim, tiles.lanes
        first_span = let(tirx.floordiv(block.first_page, self._span_pages), 1, "int64")
        end_span = let(ceil_div(block.end_page, self._span_pages), 1, "int64")
        is_split = split > 1
        begin = let(tirx.Select(is_split, maximum(span, first_span), first_span), 1, "int64")
        end = let(tirx.Select(is_split, minimum(span + 1, end_span), end_span), 1, "int64")
        with otherwise_if(begin < end):
            q = self._pack_queries(block, tiles)
            part = Softmax.allocate(tiles.rows, value_dim, lanes, total_lanes=lanes)
            whole = Softmax.allocate(tiles.rows, value_dim, lanes, total_lanes=1)
            runs = RunKernel(self._spec, self._tensors, tiles, block, self._arithmetic, q, part)
            whole.clear()
            with T.serial(end - begin) as i:
                current = let(begin + i, 1, "int64")
                part.clear()
                self._attend_span(block, current, runs)
                with T.serial(block.num_rows) as row:
                    total = reduce_sum(load(part.total, (row, index(0)), lanes), lanes)
                    with T.If(is_split):
                        with T.Then():
                            self._merger.store_partial(block, current, row, part, total)
                        with T.Else():
                            largest = part.maximum[row]
                            self._merger.merge(whole, row, largest, total, part.output, row)
            with otherwise_if(tirx.Not(is_split)), T.serial(block.num_rows) as row:
                head = let(block.head(row, group), 1, "int64")
                token, position = block.token(row, group), block.position(row, group)
                self._merger.finish(whole, row, token, head, position)

    def _pack_queries(self, block: Block, tiles: Tiles) -> Buffer:
        """Copy the block's rows side by side; rows that only fill the last tile are zero."""
        spec = self._spec
        q = self._arithmetic.rows(tiles.rows, spec.key_dim)
        with T.serial(block.num_tiles * tiles.tile_rows) as row, T.If(row < block.num_rows):
            with T.Then():
                token = block.token(row, spec.group)
                column = block.head(row, spec.group) * spec.key_dim + spec.column_offset
                for offset, lanes in pieces(spec.key_dim, tiles.lanes):
                    value = load(self._tensors.q, (token, column + offset), lanes)
                    self._arithmetic.store(q, row, index(offset), value, lanes)
            with T.Else():
                for offset, lanes in pieces(spec.key_dim, tiles.lanes):
                    self._arithmetic.store(q, row, index(offset), splat(0.0, lanes), lanes)
        return q

    def _attend_span(self, block: Block, span: Expr, runs: RunKernel) -> None:
        """The span's pages that the block looks at, run by run."""
        begin = let(maximum(span * self._span_pages, block.first_page), 1, "int64")
        end = let(minimum((span + 1) * self._span_pages, block.end_page), 1, "int64")
        first_run = let(tirx.floordiv(begin, self._run_pages), 1, "int64")
        with T.serial(ceil_div(end, self._run_pages) - first_run) as i:
            run = let((first_run + i) * self._run_pages, 1, "int64")
            first = let(maximum(run, begin), 1, "int64")
            num_pages = let(minimum(run + self._run_pages, end) - first, 1, "int64")
            runs.attend(first, num_pages)
