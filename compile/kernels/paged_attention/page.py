"""Turns a page of keys and values into the next state of a block's online softmax.

Every step is emitted by Python loops over the tile shapes; only tokens and key_dim are loops at run
time.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.paged_attention.rows import Block, Rows, Tensors
from ingot.compile.kernels.paged_attention.softmax import Softmax
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.paged_attention.tiles import SCORE_VECTORS, Tiles
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
    pieces,
    reduce_max,
    serial_or_once,
    splat,
    store,
    widen,
)
from ingot.compile.kernels.vector_math import exp, tanh

MINUS_INFINITY = float("-inf")


class PageKernel:
    """Emits the code of one block on one page. `q` holds the block's rows side by side."""

    def __init__(
        self,
        spec: PagedAttentionSpec,
        tensors: Tensors,
        tiles: Tiles,
        block: Block,
        q: Buffer,
        part: Softmax,
    ) -> None:
        self._spec, self._tensors, self._tiles = spec, tensors, tiles
        self._rows = Rows(spec, tensors)
        self._block, self._q, self._part = block, q, part
        self._scores = T.alloc_buffer((tiles.rows, spec.page_size))  # then weights
        self._scales = T.alloc_buffer((tiles.rows,))  # of what earlier pages gave

    def attend(self, page: Expr, first_key: Expr) -> None:
        """Attend to page `page` of the pools, which holds the keys from position `first_key` on."""
        block, tiles, page_size = self._block, self._tiles, self._spec.page_size
        # Slots past the block's last key may hold anything, not-a-number too: never touched.
        num_keys = let(minimum(block.end_key - first_key, index(page_size)), 1, "int64")
        with T.serial(block.num_tiles) as tile:
            self._score_tile(page, tile * tiles.tile_rows)
        with T.serial(block.num_rows) as row:
            self._soften_row(row, first_key)
        with T.serial(block.num_tiles) as tile:
            for first in range(0, tiles.tile_rows, tiles.value_rows):
                self._weigh_tile(page, num_keys, tile * tiles.tile_rows + first)

    def _score_tile(self, page: Expr, row: Expr) -> None:
        """scores[row + r, :] = q[row + r, :] . K of the page, tile_rows rows at once."""
        spec, block, lanes = self._spec, self._block, self._tiles.lanes
        keys_at_once = min(SCORE_VECTORS * lanes, spec.page_size)
        with serial_or_once(spec.page_size // keys_at_once) as group:
            columns = [group * keys_at_once + i for i in range(0, keys_at_once, lanes)]
            sums = [[Register(lanes, 0.0) for _ in columns] for _ in range(self._tiles.tile_rows)]
            with T.serial(index(spec.key_dim)) as d:
                keys = []
                for column in columns:
                    key = load(self._tensors.key_pool, (page, block.kv_head, d, column), lanes)
                    keys.append(let(widen(key, spec.kv_dtype, lanes), lanes))
                for r, accumulators in enumerate(sums):
                    element = splat(let(self._q[row + r, d], 1), lanes)
                    for register, key in zip(accumulators, keys, strict=True):
                        register.set(fma(element, key, register.value, lanes))
            for r, accumulators in enumerate(sums):
                for column, register in zip(columns, accumulators, strict=True):
                    store(self._scores, (row + r, column), register.value, lanes)

    def _soften_row(self, row: Expr, first_key: Expr) -> None:
        """Turn a row of scores into weights relative to the row's new maximum."""
        spec, part = self._spec, self._part
        position = let(self._block.position(row, spec.group), 1, "int64")
        # The row sees keys [low, high) of this page, counted from the page's first key.
        low = tirx.Cast("int32", maximum(self._rows.first_key(position) - first_key, index(0)))
        high = self._rows.end_key(position, self._block.sequence) - first_key
        high = tirx.Cast("int32", minimum(high, index(spec.page_size)))
        low, high = let(low, 1, "int32"), let(high, 1, "int32")
        if self._tensors.slopes is not None:
            slope = let(self._tensors.slopes[self._block.head(row, spec.group)], 1)
            distance = let(tirx.Cast("float32", first_key - position), 1)
        vectors = pieces(spec.page_size, self._tiles.lanes)
        masked = []
        for offset, lanes in vectors:
            value = load(self._scores, (row, index(offset)), lanes) * splat(spec.scale, lanes)
            if spec.softcap:
                value = tanh(value * splat(1.0 / spec.softcap, lanes), lanes)
                value = value * splat(spec.softcap, lanes)
            key = tirx.Ramp(tirx.const(offset, "int32"), 1, lanes)
            if self._tensors.slopes is not None:
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
        new = let(maximum(old, reduce_max(largest, self._tiles.lanes)), 1)
        scale = exp(old - new, 1)
        total = Register(
            self._tiles.lanes,
            load(part.total, (row, index(0)), self._tiles.lanes) * splat(scale, self._tiles.lanes),
        )
        for (offset, lanes), value in zip(vectors, masked, strict=True):
            weight = exp(value - splat(new, lanes), lanes)
            store(self._scores, (row, index(offset)), weight, lanes)
            total.set(total.value + weight)
        store(part.total, (row, index(0)), total.value, self._tiles.lanes)
        T.buffer_store(part.maximum, new, [row])
        T.buffer_store(self._scales, scale, [row])

    def _weigh_tile(self, page: Expr, num_keys: Expr, row: Expr) -> None:
        """output[row + r, :] = output * scale + weights[row + r, :] . V of the page."""
        for chunk in self._tiles.value_chunks:
            sums = []
            for r in range(self._tiles.value_rows):
                scale = let(self._scales[row + r], 1)
                sums.append(
                    [
                        Register(
                            n, load(self._part.output, (row + r, index(o)), n) * splat(scale, n)
                        )
                        for o, n in chunk
                    ]
                )
            with T.serial(num_keys) as slot:
                values = []
                for offset, lanes in chunk:
                    where = (page, self._block.kv_head, slot, index(offset))
                    value = load(self._tensors.value_pool, where, lanes)
                    values.append(let(widen(value, self._spec.kv_dtype, lanes), lanes))
                for r, registers in enumerate(sums):
                    weight = let(self._scores[row + r, slot], 1)
                    for register, value in zip(registers, values, strict=True):
                        n = register.lanes
                        register.set(fma(splat(weight, n), value, register.value, n))
            for r, registers in enumerate(sums):
                for (offset, lanes), register in zip(chunk, registers, strict=True):
                    store(self._part.output, (row + r, index(offset)), register.value, lanes)
