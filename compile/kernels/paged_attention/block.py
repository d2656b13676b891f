"""Turns one block of query rows into TIR: scores, online softmax and weighted values by page.

Every step is emitted by Python loops over the tile shapes; only tokens, pages, spans and key_dim
are loops at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm import tirx

from ingot.compile.kernels.paged_attention.tiles import Tiles
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    ceil_div,
    fma,
    index,
    let,
    load,
    maximum,
    minimum,
    otherwise_if,
    pieces,
    reduce_max,
    reduce_sum,
    splat,
    store,
    widen,
)
from ingot.compile.kernels.vector_math import LOWEST, exp, tanh

if TYPE_CHECKING:
    from ingot.compile.kernels.paged_attention.cpu import PagedAttentionSpec

MINUS_INFINITY = float("-inf")


@dataclass(frozen=True, slots=True)
class Tensors:
    """The kernel's arguments."""

    q: Buffer
    key_pool: Buffer
    value_pool: Buffer
    page_table: Buffer
    query_offsets: Buffer
    context_lengths: Buffer
    sinks: Buffer | None
    slopes: Buffer | None
    out: Buffer


@dataclass(frozen=True, slots=True)
class Softmax:
    """Running maximum, sum and weighted values of each row of a block."""

    maximum: Buffer  # [rows]
    total: Buffer  # [rows, lanes or 1]: lanes are summed only when the span ends
    output: Buffer  # [rows, value_dim]

    @staticmethod
    def allocate(tiles: Tiles, value_dim: int, total_lanes: int) -> Softmax:
        return Softmax(
            T.alloc_buffer((tiles.rows,)),
            T.alloc_buffer((tiles.rows, total_lanes)),
            T.alloc_buffer((tiles.rows, value_dim)),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Which rows a block holds, as expressions."""

    sequence: Expr
    kv_head: Expr
    first_row: Expr  # of q: the row of the block's first token
    first_position: Expr  # of that token in its sequence
    num_tokens: Expr
    num_rows: Expr  # tokens times the heads of the group
    num_tiles: Expr
    end_key: Expr  # keys [0, end_key) are all that any row of the block may look at
    first_page: Expr
    end_page: Expr


class BlockKernel:
    """Emits the code of one block; holds what all blocks share."""

    def __init__(
        self,
        spec: PagedAttentionSpec,
        tensors: Tensors,
        partials: Buffer,
        num_blocks: Expr,
        num_spans: Expr,
        span_tokens: int,
    ) -> None:
        self.spec, self.tensors, self.partials = spec, tensors, partials
        self.num_blocks, self.num_spans = num_blocks, num_spans
        self.span_pages = span_tokens // spec.page_size
        self.num_sequences = tensors.context_lengths.shape[0]

    # --- which rows -----------------------------------------------------------------------------

    def attend(self, item: Expr, split: Expr, prefill: Tiles, decode: Tiles) -> None:
        """Attend for work item `item`: a block, or one span of a block where `split` is above 1."""
        offsets = self.tensors.query_offsets
        span = let(tirx.floormod(item, split), 1, "int64")
        # Each core gets neighbouring items. Later blocks of a prompt see more keys, so blocks are
        # taken from both ends in turn: every stretch of items is about equally much work.
        turn = let(tirx.floordiv(item, split * self.spec.kv_heads), 1, "int64")
        from_end = self.num_blocks - 1 - tirx.floordiv(turn, 2)
        is_even = tirx.floormod(turn, 2) == 0
        block = let(tirx.Select(is_even, tirx.floordiv(turn, 2), from_end), 1, "int64")
        kv_head = tirx.floormod(tirx.floordiv(item, split), self.spec.kv_heads)
        kv_head = let(kv_head, 1, "int64")
        size = prefill.block_tokens

        def first_block(sequence: Expr) -> Expr:
            return tirx.floordiv(index(offsets[sequence]), size) + sequence

        sequence = self._last_at_most(block, first_block)
        start = let(index(offsets[sequence]), 1, "int64")
        length = let(index(offsets[sequence + 1]) - start, 1, "int64")
        skipped = let((block - first_block(sequence)) * size, 1, "int64")
        tokens = let(minimum(length - skipped, index(size)), 1, "int64")
        with T.If(tirx.And(length == 1, skipped == 0)):
            with T.Then():
                self._attend_block(
                    sequence, kv_head, start, index(0), index(1), span, split, decode
                )
            with T.Else(), otherwise_if(tokens > 0):
                self._attend_block(sequence, kv_head, start, skipped, tokens, span, split, prefill)

    def _last_at_most(self, value: Expr, key: object) -> Expr:
        """The last sequence s with key(s) <= value, by bisection; key(0) is at most `value`."""
        low, high = Register(1, index(0), "int64"), Register(1, self.num_sequences, "int64")
        with T.While(high.value - low.value > 1):
            middle = let(tirx.floordiv(low.value + high.value, 2), 1, "int64")
            with T.If(key(middle) <= value):  # type: ignore[operator]
                with T.Then():
                    low.set(middle)
                with T.Else():
                    high.set(middle)
        return low.value

    def _first_key(self, position: Expr) -> Expr:
        """The first key that a query at `position` sees; later queries see none before it."""
        first = index(0)
        if self.spec.window:
            first = maximum(first, position - (self.spec.window - 1))
        if self.spec.chunk:
            first = maximum(first, position - tirx.floormod(position, self.spec.chunk))
        return first

    def _end_key(self, position: Expr, sequence: Expr) -> Expr:
        if self.spec.causal:
            return position + 1
        return index(self.tensors.context_lengths[sequence])

    def _attend_block(
        self,
        sequence: Expr,
        kv_head: Expr,
        start: Expr,
        skipped: Expr,
        tokens: Expr,
        span: Expr,
        split: Expr,
        tiles: Tiles,
    ) -> None:
        page_size = self.spec.page_size
        length = index(self.tensors.query_offsets[sequence + 1]) - start
        context = index(self.tensors.context_lengths[sequence])
        position = let(context - length + skipped, 1, "int64")
        num_rows = let(tokens * self.spec.group, 1, "int64")
        end_key = let(self._end_key(position + tokens - 1, sequence), 1, "int64")
        block = Block(
            sequence=sequence,
            kv_head=kv_head,
            first_row=let(start + skipped, 1, "int64"),
            first_position=position,
            num_tokens=tokens,
            num_rows=num_rows,
            num_tiles=let(ceil_div(num_rows, tiles.tile_rows), 1, "int64"),
            end_key=end_key,
            first_page=let(tirx.floordiv(self._first_key(position), page_size), 1, "int64"),
            end_page=let(ceil_div(end_key, page_size), 1, "int64"),
        )
        first_span = let(tirx.floordiv(block.first_page, self.span_pages), 1, "int64")
        end_span = let(ceil_div(block.end_page, self.span_pages), 1, "int64")
        is_split = split > 1
        begin = let(tirx.Select(is_split, maximum(span, first_span), first_span), 1, "int64")
        end = let(tirx.Select(is_split, minimum(span + 1, end_span), end_span), 1, "int64")
        with otherwise_if(begin < end):
            q = self._pack_queries(block, tiles)
            part = Softmax.allocate(tiles, self.spec.value_dim, tiles.lanes)
            whole = Softmax.allocate(tiles, self.spec.value_dim, 1)
            self._clear(whole, block, 1)
            with T.serial(end - begin) as i:
                current = let(begin + i, 1, "int64")
                self._attend_span(block, current, q, part, tiles)
                with T.serial(block.num_rows) as row:
                    values = load(part.total, (row, index(0)), tiles.lanes)
                    total = reduce_sum(values, tiles.lanes)
                    with T.If(is_split):
                        with T.Then():
                            self._store_partial(block, current, row, part, total, tiles)
                        with T.Else():
                            self._merge(whole, row, part.maximum[row], total, part.output, row)
            with otherwise_if(tirx.Not(is_split)), T.serial(block.num_rows) as row:
                head = let(self._head(block, row), 1, "int64")
                token = let(tirx.floordiv(row, self.spec.group), 1, "int64")
                self._finish(whole, row, block.first_row + token, head, position + token)

    def _head(self, block: Block, row: Expr) -> Expr:
        return block.kv_head * self.spec.group + tirx.floormod(row, self.spec.group)

    # --- one span -------------------------------------------------------------------------------

    def _pack_queries(self, block: Block, tiles: Tiles) -> Buffer:
        """Copy the block's rows side by side; rows that only fill the last tile are zero."""
        spec = self.spec
        q = T.alloc_buffer((tiles.rows, spec.key_dim))
        with T.serial(block.num_tiles * tiles.tile_rows) as row:
            with T.If(row < block.num_rows):
                with T.Then():
                    token = block.first_row + tirx.floordiv(row, spec.group)
                    column = self._head(block, row) * spec.key_dim + spec.column_offset
                    for offset, lanes in pieces(spec.key_dim, tiles.lanes):
                        value = load(self.tensors.q, (token, column + offset), lanes)
                        store(q, (row, index(offset)), value, lanes)
                with T.Else():
                    for offset, lanes in pieces(spec.key_dim, tiles.lanes):
                        store(q, (row, index(offset)), splat(0.0, lanes), lanes)
        return q

    def _clear(self, softmax: Softmax, block: Block, total_lanes: int) -> None:
        with T.serial(softmax.maximum.shape[0]) as row:
            T.buffer_store(softmax.maximum, tirx.const(LOWEST, "float32"), [row])
            store(softmax.total, (row, index(0)), splat(0.0, total_lanes), total_lanes)
            for offset, lanes in pieces(self.spec.value_dim, 16):
                store(softmax.output, (row, index(offset)), splat(0.0, lanes), lanes)

    def _attend_span(
        self, block: Block, span: Expr, q: Buffer, part: Softmax, tiles: Tiles
    ) -> None:
        page_size = self.spec.page_size
        scores = T.alloc_buffer((tiles.rows, page_size))
        scales = T.alloc_buffer((tiles.rows,))
        self._clear(part, block, tiles.lanes)
        begin = let(maximum(span * self.span_pages, block.first_page), 1, "int64")
        end = let(minimum((span + 1) * self.span_pages, block.end_page), 1, "int64")
        with T.serial(end - begin) as i:
            logical = let(begin + i, 1, "int64")
            page = let(index(self.tensors.page_table[block.sequence, logical]), 1, "int64")
            first_key = let(logical * page_size, 1, "int64")
            # Slots past the block's last key may hold anything, not-a-number too: never touched.
            num_keys = let(minimum(block.end_key - first_key, index(page_size)), 1, "int64")
            with T.serial(block.num_tiles) as tile:
                self._score_tile(block, page, tile * tiles.tile_rows, q, scores, tiles)
            with T.serial(block.num_rows) as row:
                self._soften_row(block, row, first_key, scores, scales, part, tiles)
            with T.serial(block.num_tiles) as tile:
                for first in range(0, tiles.tile_rows, tiles.value_rows):
                    row = tile * tiles.tile_rows + first
                    self._weigh_tile(block, page, num_keys, row, scores, scales, part, tiles)

    def _score_tile(
        self, block: Block, page: Expr, row: Expr, q: Buffer, scores: Buffer, tiles: Tiles
    ) -> None:
        """scores[row + r, :] = q[row + r, :] . K of the page, tile_rows rows at once."""
        spec = self.spec
        vectors = pieces(spec.page_size, tiles.lanes)
        for first in range(0, len(vectors), 2):
            columns = vectors[first : first + 2]
            sums = [[Register(n, 0.0) for _, n in columns] for _ in range(tiles.tile_rows)]
            with T.serial(index(spec.key_dim)) as d:
                keys = []
                for offset, lanes in columns:
                    key = load(
                        self.tensors.key_pool, (page, block.kv_head, d, index(offset)), lanes
                    )
                    keys.append(let(widen(key, spec.kv_dtype, lanes), lanes))
                for r, accumulators in enumerate(sums):
                    element = let(q[row + r, d], 1)
                    for register, key in zip(accumulators, keys, strict=True):
                        n = register.lanes
                        register.set(fma(splat(element, n), key, register.value, n))
            for r, accumulators in enumerate(sums):
                for (offset, lanes), register in zip(columns, accumulators, strict=True):
                    store(scores, (row + r, index(offset)), register.value, lanes)

    def _soften_row(
        self,
        block: Block,
        row: Expr,
        first_key: Expr,
        scores: Buffer,
        scales: Buffer,
        part: Softmax,
        tiles: Tiles,
    ) -> None:
        """Turn a row of scores into weights relative to the row's new maximum."""
        spec = self.spec
        position = let(block.first_position + tirx.floordiv(row, spec.group), 1, "int64")
        # The row sees keys [low, high) of this page, counted from the page's first key.
        low = tirx.Cast("int32", maximum(self._first_key(position) - first_key, index(0)))
        high = self._end_key(position, block.sequence) - first_key
        high = tirx.Cast("int32", minimum(high, index(spec.page_size)))
        low, high = let(low, 1, "int32"), let(high, 1, "int32")
        if self.tensors.slopes is not None:
            slope = let(self.tensors.slopes[self._head(block, row)], 1)
            distance = let(tirx.Cast("float32", first_key - position), 1)
        vectors = pieces(spec.page_size, tiles.lanes)
        masked = []
        for offset, lanes in vectors:
            value = load(scores, (row, index(offset)), lanes) * splat(spec.scale, lanes)
            if spec.softcap:
                value = tanh(value * splat(1.0 / spec.softcap, lanes), lanes)
                value = value * splat(spec.softcap, lanes)
            key = tirx.Ramp(tirx.const(offset, "int32"), 1, lanes)
            if self.tensors.slopes is not None:
                # Relative to the query's own position: softmax ignores the difference, and small
                # numbers keep their digits.
                away = tirx.Cast(f"float32x{lanes}", key) + splat(distance, lanes)
                value = fma(splat(slope, lanes), away, value, lanes)
            is_seen = tirx.And(key >= splat(low, lanes), key < splat(high, lanes))
            masked.append(let(tirx.Select(is_seen, value, splat(MINUS_INFINITY, lanes)), lanes))
        largest = masked[0]
        for value in masked[1:]:
            largest = maximum(largest, value)
        old = let(part.maximum[row], 1)
        new = let(maximum(old, reduce_max(largest, tiles.lanes)), 1)
        scale = exp(old - new, 1)
        total = Register(
            tiles.lanes, load(part.total, (row, index(0)), tiles.lanes) * splat(scale, tiles.lanes)
        )
        for (offset, lanes), value in zip(vectors, masked, strict=True):
            weight = exp(value - splat(new, lanes), lanes)
            store(scores, (row, index(offset)), weight, lanes)
            total.set(total.value + weight)
        store(part.total, (row, index(0)), total.value, tiles.lanes)
        T.buffer_store(part.maximum, new, [row])
        T.buffer_store(scales, scale, [row])

    def _weigh_tile(
        self,
        block: Block,
        page: Expr,
        num_keys: Expr,
        row: Expr,
        scores: Buffer,
        scales: Buffer,
        part: Softmax,
        tiles: Tiles,
    ) -> None:
        """output[row + r, :] = output * scale + weights[row + r, :] . V of the page."""
        for chunk in tiles.value_chunks:
            sums = []
            for r in range(tiles.value_rows):
                scale = let(scales[row + r], 1)
                sums.append(
                    [
                        Register(n, load(part.output, (row + r, index(o)), n) * splat(scale, n))
                        for o, n in chunk
                    ]
                )
            with T.serial(num_keys) as slot:
                values = []
                for offset, lanes in chunk:
                    where = (page, block.kv_head, slot, index(offset))
                    value = load(self.tensors.value_pool, where, lanes)
                    values.append(let(widen(value, self.spec.kv_dtype, lanes), lanes))
                for r, registers in enumerate(sums):
                    weight = let(scores[row + r, slot], 1)
                    for register, value in zip(registers, values, strict=True):
                        n = register.lanes
                        register.set(fma(splat(weight, n), value, register.value, n))
            for r, registers in enumerate(sums):
                for (offset, lanes), register in zip(chunk, registers, strict=True):
                    store(part.output, (row + r, index(offset)), register.value, lanes)

    # --- merging spans --------------------------------------------------------------------------

    def _merge(
        self,
        whole: Softmax,
        row: Expr,
        part_maximum: Expr,
        part_total: Expr,
        part_output: Buffer,
        part_row: Expr,
    ) -> None:
        """Fold one span into a row's running softmax; one without visible keys changes nothing."""
        old, maximum_ = let(whole.maximum[row], 1), let(part_maximum, 1)
        new = let(maximum(old, maximum_), 1)
        keep, take = exp(old - new, 1), exp(maximum_ - new, 1)
        total = fma(whole.total[row, 0], keep, part_total * take, 1)
        T.buffer_store(whole.total, total, [row, 0])
        T.buffer_store(whole.maximum, new, [row])
        for offset, lanes in pieces(self.spec.value_dim, 16):
            kept = load(whole.output, (row, index(offset)), lanes) * splat(keep, lanes)
            taken = load(part_output, (part_row, index(offset)), lanes)
            value = fma(taken, splat(take, lanes), kept, lanes)
            store(whole.output, (row, index(offset)), value, lanes)

    def _finish(self, whole: Softmax, row: Expr, token: Expr, head: Expr, position: Expr) -> None:
        """Divide by the sum (and the sink's share of it) and write the row out."""
        total, scale = let(whole.total[row, 0], 1), tirx.const(1.0, "float32")
        if self.tensors.sinks is not None:
            old, sink = let(whole.maximum[row], 1), let(self.tensors.sinks[head], 1)
            if self.tensors.slopes is not None:
                sink = let(sink - self.tensors.slopes[head] * tirx.Cast("float32", position), 1)
            new = let(maximum(old, sink), 1)
            scale = exp(old - new, 1)
            total = let(fma(total, scale, exp(sink - new, 1), 1), 1)
        zero = tirx.const(0.0, "float32")
        factor = let(tirx.Select(total > zero, scale / total, zero), 1)
        for offset, lanes in pieces(self.spec.value_dim, 16):
            value = load(whole.output, (row, index(offset)), lanes) * splat(factor, lanes)
            column = head * self.spec.value_dim + offset
            store(self.tensors.out, (token, column), value, lanes)

    def _store_partial(
        self, block: Block, span: Expr, row: Expr, part: Softmax, total: Expr, tiles: Tiles
    ) -> None:
        token = block.first_row + tirx.floordiv(row, self.spec.group)
        where = self._partial_row(token, self._head(block, row), span)
        width = self.spec.value_dim
        for offset, lanes in pieces(width, tiles.lanes):
            value = load(part.output, (row, index(offset)), lanes)
            store(self.partials, (where, index(offset)), value, lanes)
        T.buffer_store(self.partials, part.maximum[row], [where, width])
        T.buffer_store(self.partials, total, [where, width + 1])

    def _partial_row(self, token: Expr, head: Expr, span: Expr) -> Expr:
        return let((token * self.spec.num_heads + head) * self.num_spans + span, 1, "int64")

    def merge_row(self, token: Expr, tiles: Tiles) -> None:
        """Merge the spans of all heads of one token, in the order that one core would."""
        offsets, spec = self.tensors.query_offsets, self.spec
        with otherwise_if(token < index(offsets[self.num_sequences])):
            sequence = self._last_at_most(token, lambda s: index(offsets[s]))
            after = index(offsets[sequence + 1]) - token
            context = index(self.tensors.context_lengths[sequence])
            position = let(context - after, 1, "int64")
            span_tokens = self.span_pages * spec.page_size
            begin = let(tirx.floordiv(self._first_key(position), span_tokens), 1, "int64")
            end = let(ceil_div(self._end_key(position, sequence), span_tokens), 1, "int64")
            whole = Softmax(
                T.alloc_buffer((1,)), T.alloc_buffer((1, 1)), T.alloc_buffer((1, spec.value_dim))
            )
            with T.serial(index(spec.num_heads)) as head:
                T.buffer_store(whole.maximum, tirx.const(LOWEST, "float32"), [0])
                T.buffer_store(whole.total, tirx.const(0.0, "float32"), [0, 0])
                for offset, lanes in pieces(spec.value_dim, tiles.lanes):
                    store(whole.output, (0, offset), splat(0.0, lanes), lanes)
                with T.serial(end - begin) as i:
                    where = self._partial_row(token, head, begin + i)
                    part_maximum = self.partials[where, spec.value_dim]
                    part_total = self.partials[where, spec.value_dim + 1]
                    self._merge(whole, index(0), part_maximum, part_total, self.partials, where)
                self._finish(whole, index(0), token, head, position)
