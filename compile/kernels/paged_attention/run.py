"""Turns a run of pages of keys and values into the next state of a block's online softmax.

A run is up to `RUN_TOKENS` positions: what a row's new maximum costs (a sum over lanes, a rescaling
of its output) is paid once a run. Every step is emitted by Python loops over the tile shapes; only
pages, tokens and key_dim are loops at run time.

In decode each page is read once, and the pages of a sequence lie anywhere, so a CPU sees no
stream to read ahead of. The kernel asks for what comes next itself, a little with each step of the
arithmetic: for a page's values while its keys are multiplied, for the next run's keys after that.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from ingot.compile.kernels.paged_attention.arithmetic import Arithmetic
from ingot.compile.kernels.paged_attention.rows import Block, Tensors
from ingot.compile.kernels.paged_attention.run_softmax import RunSoftmax
from ingot.compile.kernels.paged_attention.softmax import Softmax
from ingot.compile.kernels.paged_attention.spec import RUN_TOKENS, PagedAttentionSpec
from ingot.compile.kernels.paged_attention.tiles import SCORE_VECTORS, Chunk, Tiles
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    index,
    let,
    load,
    minimum,
    otherwise_if,
    prefetch,
    serial_or_once,
    splat,
    store,
)
from ingot.runtime.artifact.kv_layout import slab_index

CACHE_LINE_BYTES = 64


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
        self._block, self._arithmetic, self._q, self._part = block, arithmetic, q, part
        self._scores = T.alloc_buffer((tiles.rows, RUN_TOKENS))
        self._weights = arithmetic.weights(self._scores)
        self._scales = T.alloc_buffer((tiles.rows,))  # of what earlier runs gave
        self._asks_ahead = tiles.block_tokens == 1  # else other blocks had the page in the cache

    def attend(self, first_page: Expr, num_pages: Expr) -> None:
        """Attend to pages of the sequence from `first_page` on, which are some of one run."""
        block, tiles = self._block, self._tiles
        with T.serial(num_pages) as i:
            slab = self._slab(first_page + i)
            start = let(i * self._spec.page_size, 1, "int64")
            with T.serial(block.num_tiles) as tile:
                self._score_tile(slab, tile * tiles.tile_rows, start)
        first_key = let(first_page * self._spec.page_size, 1, "int64")
        softmax = RunSoftmax(self._spec, self._tensors, block, tiles.lanes, first_key, num_pages)
        with T.serial(block.num_rows) as row:
            if self._asks_ahead:
                with T.serial(num_pages) as i:
                    self._ask_for_next_keys(first_page + i, row, 2 * tiles.rows)
            scale = softmax.turn_into_weights(
                row, self._scores, self._weights, self._arithmetic, self._part
            )
            T.buffer_store(self._scales, scale, [row])
        with T.serial(block.num_tiles) as tile:
            for first in range(0, tiles.tile_rows, tiles.value_rows):
                for chunk in tiles.value_chunks:
                    row = let(tile * tiles.tile_rows + first, 1, "int64")
                    is_first = first == 0 and chunk == tiles.value_chunks[0]
                    self._weigh_tile(chunk, row, first_page, num_pages, asks_ahead=is_first)

    def _slab(self, logical: Expr) -> Expr:
        """Where the pools hold page `logical` of the sequence for the block's KV head."""
        page = let(index(self._tensors.page_table[self._block.sequence, logical]), 1, "int64")
        return let(slab_index(page, self._block.kv_head, self._spec.kv_heads), 1, "int64")

    def _ask_for(self, pool: Buffer, slab: Expr, part: Expr, parts: int) -> None:
        """Ask for one of the `parts` that a slab is cut into."""
        elements = int(pool.shape[1]) * int(pool.shape[2])
        share = -(-elements // parts)
        for first in range(0, share, CACHE_LINE_BYTES // np.dtype(pool.dtype).itemsize):
            prefetch(pool, (slab, index(0), part * share + first))

    def _ask_for_next_keys(self, logical: Expr, part: Expr, parts: int) -> None:
        """Ask for a part of the page one run after page `logical`; at the end for the last again,
        which is in the cache."""
        later = minimum(logical + RUN_TOKENS // self._spec.page_size, self._block.end_page - 1)
        self._ask_for(self._tensors.key_pool, self._slab(later), part, parts)

    def _score_tile(self, slab: Expr, row: Expr, start: Expr) -> None:
        """scores[row + r, start:] = q[row + r, :] . K of the page, tile_rows rows at once."""
        spec, lanes = self._spec, self._tiles.lanes
        arithmetic, pool = self._arithmetic, self._tensors.key_pool
        keys_at_once = min(SCORE_VECTORS * lanes, spec.page_size)
        groups, steps = spec.page_size // keys_at_once, spec.key_dim // arithmetic.step
        with serial_or_once(groups) as group:
            columns = [group * keys_at_once + i for i in range(0, keys_at_once, lanes)]
            sums = [[Register(lanes, 0.0) for _ in columns] for _ in range(self._tiles.tile_rows)]
            with T.serial(index(steps)) as i:
                if self._asks_ahead:
                    part = group * steps + i
                    self._ask_for(self._tensors.value_pool, slab, part, groups * steps)
                keys = [arithmetic.vector(pool, (slab, i, column), lanes) for column in columns]
                for r, accumulators in enumerate(sums):
                    element = arithmetic.element(self._q, row + r, i, lanes)
                    for register, key in zip(accumulators, keys, strict=True):
                        register.set(arithmetic.add(register.value, element, key, lanes))
            for r, accumulators in enumerate(sums):
                for column, register in zip(columns, accumulators, strict=True):
                    store(self._scores, (row + r, start + column), register.value, lanes)

    def _weigh_tile(
        self, chunk: Chunk, row: Expr, first_page: Expr, num_pages: Expr, *, asks_ahead: bool
    ) -> None:
        """output[row + r, chunk] = output * scale + weights[row + r, :] . V of the pages."""
        step, page_size = self._arithmetic.step, self._spec.page_size
        asks_ahead = asks_ahead and self._asks_ahead
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
            slab = self._slab(logical)
            # Slots past the block's last key may hold anything, not-a-number too: never touched.
            left = self._block.end_key - logical * page_size
            num_keys = let(minimum(left, index(page_size)), 1, "int64")
            start = let(i * (page_size // step), 1, "int64")
            steps = page_size // step
            with T.serial(tirx.floordiv(num_keys, step)) as slot:
                if asks_ahead:
                    self._ask_for_next_keys(logical, steps + slot, 2 * steps)
                self._weigh(sums, chunk, slab, slot, row, start + slot, whole=True)
            if step > 1:
                with otherwise_if(tirx.floormod(num_keys, step) == 1):
                    slot = let(tirx.floordiv(num_keys, step), 1, "int64")
                    self._weigh(sums, chunk, slab, slot, row, start + slot, whole=False)
        for r, registers in enumerate(sums):
            for (offset, lanes), register in zip(chunk, registers, strict=True):
                store(self._part.output, (row + r, index(offset)), register.value, lanes)

    def _weigh(
        self,
        sums: list[list[Register]],
        chunk: Chunk,
        slab: Expr,
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
            where = (slab, slot, index(offset))
            value = arithmetic.vector(pool, where, lanes)
            values.append(value if whole else arithmetic.first_half(value, lanes))
        for r, registers in enumerate(sums):
            for register, value in zip(registers, values, strict=True):
                n = register.lanes
                weight = arithmetic.element(self._weights, row + r, i, n)
                register.set(arithmetic.add(register.value, weight, value, n))
