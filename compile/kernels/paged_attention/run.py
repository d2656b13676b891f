"""Turns a run of pages of keys and values into the next state of a block's online softmax.

A run is up to `RUN_TOKENS` positions: what a row's new maximum costs (a sum over lanes, a rescaling
of its output) is paid once a run. Every step is emitted by Python loops over the tile shapes; only
pages, tokens and key_dim are loops at run time.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ingot.compile.kernels.paged_attention.arithmetic import Arithmetic
from ingot.compile.kernels.paged_attention.rows import Block, Rows, Tensors
from ingot.compile.kernels.paged_attention.softmax import Softmax
from ingot.compile.kernels.paged_attention.spec import RUN_TOKENS, PagedAttentionSpec
from ingot.compile.kernels.paged_attention.tiles import SCORE_VECTORS, Chunk, Tiles
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    fma,
    index,
    let,
    load,
    maximum,
    minimum,
    otherwise_if,
    reduce_max,
    serial_or_once,
    splat,
    store,
)
from ingot.compile.kernels.vector_math import exp, tanh

MINUS_INFINITY = float("-inf")


class RunKernel:
    """Emits the code of one block on one run of pages. `q` holds the block's rows side by side."""

    def __init__(
        self,
        spec: PagedAttentionSpec,
        tensors: Tensors,
        tiles: Tiles,
        block: Block,
        arithmetic: Arithmetic,
        q: Buffer,
        part: Softmax,
    ) -> None:
        self._spec, self._tensors, self._tiles = spec, tensors, tiles
        self._rows = Rows(spec, tensors)
        self._block, self._arithmetic, self._q, self._part = block, arithmetic, q, part
        self._scores = T.alloc_buffer((tiles.rows, RUN_TOKENS))
        self._weights = arithmetic.weights(self._scores)
        self._scales = T.alloc_buffer((tiles.rows,))  # of what earlier runs gave

    def attend(self, first_page: Expr, num_pages: Expr) -> None:
        """Attend to pages of the sequence from `first_page` on, which are some of one run."""
        block, tiles = self._block, self._tiles
        with T.serial(num_pages) as i:
            page = self._page(first_page + i)
            start = let(i * self._spec.page_size, 1, "int64")
            with T.serial(block.num_tiles) as tile:
                self._score_tile(page, tile * tiles.tile_rows, start)
        first_key = let(first_page * self._spec.page_size, 1, "int64")
        with T.serial(block.num_rows) as row:
            self._soften_row(row, first_key, num_pages)
        with T.serial(block.num_tiles) as tile:
            for first in range(0, tiles.tile_rows, tiles.value_rows):
                for chunk in tiles.value_chunks:
                    row = let(tile * tiles.tile_rows + first, 1, "int64")
                    self._weigh_tile(chunk, row, first_page, num_pages)

    def _page(self, logical: Expr) -> Expr:
        """Which page of the pools holds page `logical` of the sequence."""
        table = self._tensors.page_table
        return let(index(table[self._block.sequence, logical]), 1, "int64")

    def _score_tile(self, page: Expr, row: Expr, start: Expr) -> None:
        """scores[row + r, start:] = q[row + r, :] . K of the page, tile_rows rows at once."""
        spec, block, lanes = self._spec, self._block, self._tiles.lanes
        arithmetic, pool = self._arithmetic, self._tensors.key_pool
        keys_at_once = min(SCORE_VECTORS * lanes, spec.page_size)
        with serial_or_once(spec.page_size // keys_at_once) as group:
            columns = [group * keys_at_once + i for i in range(0, keys_at_once, lanes)]
            sums = [[Register(lanes, 0.0) for _ in columns] for _ in range(self._tiles.tile_rows)]
            with T.serial(index(spec.key_dim // arithmetic.step)) as i:
                keys = [
                    arithmetic.vector(pool, (page, block.kv_head, i, column), lanes)
                    for column in columns
                ]
                for r, accumulators in enumerate(sums):
                    element = arithmetic.element(self._q, row + r, i, lanes)
                    for register, key in zip(accumulators, keys, strict=True):
                        register.set(arithmetic.add(register.value, element, key, lanes))
            for r, accumulators in enumerate(sums):
                for column, register in zip(columns, accumulators, strict=True):
                    store(self._scores, (row + r, start + column), register.value, lanes)

    def _soften_row(self, row: Expr, first_key: Expr, num_pages: Expr) -> None:
        """Turn a row of scores into weights relative to the row's new maximum."""
        spec, part, lanes = self._spec, self._part, self._tiles.lanes
        position = let(self._block.position(row, spec.group), 1, "int64")
        # The row sees keys [low, high) of the pages, counted from the first one's first key.
        low = tirx.Cast("int32", maximum(self._rows.first_key(position) - first_key, index(0)))
        high = self._rows.end_key(position, self._block.sequence) - first_key
        high = tirx.Cast("int32", minimum(high, index(RUN_TOKENS)))
        low, high = let(low, 1, "int32"), let(high, 1, "int32")
        mask = self._masking(row, position, first_key, low, high)
        num_vectors = num_pages * (spec.page_size // lanes)
        largest = Register(lanes, MINUS_INFINITY)
        with T.serial(num_vectors) as i:
            where = (row, i * lanes)
            value = let(mask(load(self._scores, where, lanes), i * lanes), lanes)
            store(self._scores, where, value, lanes)
            largest.set(maximum(largest.value, value))
        old = let(part.maximum[row], 1)
        new = let(maximum(old, reduce_max(largest.value, lanes)), 1)
        scale = exp(old - new, 1)
        total = Register(lanes, load(part.total, (row, index(0)), lanes) * splat(scale, lanes))
        with T.serial(num_vectors) as i:
            offset = i * lanes
            score = load(self._scores, (row, offset), lanes)
            weight = exp(score - splat(new, lanes), lanes)
            weight = self._arithmetic.store(self._weights, row, offset, weight, lanes)
            total.set(total.value + weight)
        store(part.total, (row, index(0)), total.value, lanes)
        T.buffer_store(part.maximum, new, [row])
        T.buffer_store(self._scales, scale, [row])

    def _masking(
        self, row: Expr, position: Expr, first_key: Expr, low: Expr, high: Expr
    ) -> Callable[[Expr, Expr], Expr]:
        """What turns q . k of neighbouring keys, from the `first`-th on, into masked scores."""
        spec, lanes = self._spec, self._tiles.lanes
        if self._tensors.slopes is not None:
            slope = let(self._tensors.slopes[self._block.head(row, spec.group)], 1)
            distance = let(tirx.Cast("float32", first_key - position), 1)

        def mask(value: Expr, first: Expr) -> Expr:
            value = value * splat(spec.scale, lanes)
            if spec.softcap:
                value = tanh(value * splat(1.0 / spec.softcap, lanes), lanes)
                value = value * splat(spec.softcap, lanes)
            key = tirx.Ramp(tirx.Cast("int32", first), 1, lanes)
            if self._tensors.slopes is not None:
                # Relative to the query's own position: softmax ignores the difference, and small
                # numbers keep their digits.
                away = tirx.Cast(f"float32x{lanes}", key) + splat(distance, lanes)
                value = fma(splat(slope, lanes), away, value, lanes)
            is_seen = tirx.And(key >= splat(low, lanes), key < splat(high, lanes))
            return tirx.Select(is_seen, value, splat(MINUS_INFINITY, lanes))

        return mask

    def _weigh_tile(self, chunk: Chunk, row: Expr, first_page: Expr, num_pages: Expr) -> None:
        """output[row + r, chunk] = output * scale + weights[row + r, :] . V of the pages."""
        step, page_size = self._arithmetic.step, self._spec.page_size
        sums = []
        for r in range(self._tiles.value_rows):
            scale = let(self._scales[row + r], 1)
            sums.append(
                [
                    Register(n, load(self._part.output, (row + r, index(o)), n) * splat(scale, n))
                    for o, n in chunk
                ]
            )
        with T.serial(num_pages) as i:
            logical = let(first_page + i, 1, "int64")
            page = self._page(logical)
            # Slots past the block's last key may hold anything, not-a-number too: never touched.
            left = self._block.end_key - logical * page_size
            num_keys = let(minimum(left, index(page_size)), 1, "int64")
            start = let(i * (page_size // step), 1, "int64")
            with T.serial(tirx.floordiv(num_keys, step)) as slot:
                self._weigh(sums, chunk, page, slot, row, start + slot, whole=True)
            if step > 1:
                with otherwise_if(tirx.floormod(num_keys, step) == 1):
                    slot = let(tirx.floordiv(num_keys, step), 1, "int64")
                    self._weigh(sums, chunk, page, slot, row, start + slot, whole=False)
        for r, registers in enumerate(sums):
            for (offset, lanes), register in zip(chunk, registers, strict=True):
                store(self._part.output, (row + r, index(offset)), register.value, lanes)

    def _weigh(
        self,
        sums: list[list[Register]],
        chunk: Chunk,
        page: Expr,
        slot: Expr,
        row: Expr,
        i: Expr,
        *,
        whole: bool,
    ) -> None:
        """Add the values of one slot, or pair of slots, times element `i` of the rows' weights.

        Without `whole`, the second slot of the pair is past the block's last key.
        """
        arithmetic, pool = self._arithmetic, self._tensors.value_pool
        values = []
        for offset, lanes in chunk:
            where = (page, self._block.kv_head, slot, index(offset))
            value = arithmetic.vector(pool, where, lanes)
            values.append(value if whole else arithmetic.first_half(value, lanes))
        for r, registers in enumerate(sums):
            for register, value in zip(registers, values, strict=True):
                n = register.lanes
                weight = arithmetic.element(self._weights, row + r, i, n)
                register.set(arithmetic.add(register.value, weight, value, n))
