"""Turns a row's scores of a run into softmax weights relative to the row's new maximum."""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.paged_attention.arithmetic import Arithmetic
from ingot.compile.kernels.paged_attention.rows import Block, Rows, Tensors
from ingot.compile.kernels.paged_attention.softmax import Softmax
from ingot.compile.kernels.paged_attention.spec import RUN_TOKENS, PagedAttentionSpec
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
    reduce_max,
    splat,
    store,
)
from ingot.compile.kernels.vector_math import exp, tanh

MINUS_INFINITY = float("-inf")


class RunSoftmax:
    """Emits what a run of pages, from the one with key `first_key` on, does to a row.

    Scores are q . k as they come. Where nothing but `scale` is done to them, the multiplication is
    part of the one that subtracts the maximum.
    """

    def __init__(
        self,
        spec: PagedAttentionSpec,
        tensors: Tensors,
        block: Block,
        lanes: int,
        first_key: Expr,
        num_pages: Expr,
    ) -> None:
        self._spec, self._tensors, self._block, self._lanes = spec, tensors, block, lanes
        self._rows = Rows(spec, tensors)
        self._first_key = first_key
        self._num_vectors = num_pages * (spec.page_size // lanes)
        self._is_plain = not spec.softcap and tensors.slopes is None

    def turn_into_weights(
        self, row: Expr, scores: Buffer, weights: Buffer, arithmetic: Arithmetic, part: Softmax
    ) -> Expr:
        """Write the row's weights, take them into `part`'s maximum and sum; the factor by which
        what earlier runs gave has shrunk."""
        lanes = self._lanes
        factor = self._spec.scale if self._is_plain else 1.0
        largest = self._largest_score(row, scores)
        old = let(part.maximum[row], 1)
        new = let(maximum(old, reduce_max(largest, lanes) * tirx.const(factor, "float32")), 1)
        scale = exp(old - new, 1)
        total = Register(lanes, load(part.total, (row, index(0)), lanes) * splat(scale, lanes))
        minus_new = let(tirx.const(0.0, "float32") - new, 1)
        with T.serial(self._num_vectors) as i:
            score = load(scores, (row, i * lanes), lanes)
            score = fma(score, splat(factor, lanes), splat(minus_new, lanes), lanes)
            weight = arithmetic.store(weights, row, i * lanes, exp(score, lanes), lanes)
            total.set(total.value + weight)
        store(part.total, (row, index(0)), total.value, lanes)
        T.buffer_store(part.maximum, new, [row])
        return scale

    def _largest_score(self, row: Expr, scores: Buffer) -> Expr:
        """The largest score of each lane, scores changed and masked as the spec says."""
        lanes = self._lanes
        position = let(self._block.position(row, self._spec.group), 1, "int64")
        # The row sees keys [low, high) of the pages, counted from the first one's first key.
        low = maximum(self._rows.first_key(position) - self._first_key, index(0))
        low = let(tirx.Cast("int32", low), 1, "int32")
        high = self._rows.end_key(position, self._block.sequence) - self._first_key
        high = let(tirx.Cast("int32", minimum(high, index(RUN_TOKENS))), 1, "int32")
        largest = Register(lanes, MINUS_INFINITY)

        def take(i: Expr, *, is_masked: bool) -> None:
            where = (row, i * lanes)
            value = load(scores, where, lanes)
            key = tirx.Ramp(tirx.Cast("int32", i * lanes), 1, lanes)
            if not self._is_plain:
                value = self._change(value, key, row, position)
            if is_masked:
                is_seen = tirx.And(key >= splat(low, lanes), key < splat(high, lanes))
                value = tirx.Select(is_seen, value, splat(MINUS_INFINITY, lanes))
            value = let(value, lanes)
            if is_masked or not self._is_plain:
                store(scores, where, value, lanes)
            largest.set(maximum(largest.value, value))

        keys = let(tirx.Cast("int32", self._num_vectors * lanes), 1, "int32")
        with T.If(tirx.And(low == 0, high >= keys)):
            with T.Then(), T.serial(self._num_vectors) as i:
                take(i, is_masked=False)
            with T.Else(), T.serial(self._num_vectors) as i:
                take(i, is_masked=True)
        return largest.value

    def _change(self, value: Expr, key: Expr, row: Expr, position: Expr) -> Expr:
        """Scores of neighbouring keys, scaled, capped and sloped."""
        spec, lanes = self._spec, self._lanes
        value = value * splat(spec.scale, lanes)
        if spec.softcap:
            value = tanh(value * splat(1.0 / spec.softcap, lanes), lanes)
            value = value * splat(spec.softcap, lanes)
        if self._tensors.slopes is not None:
            slope = let(self._tensors.slopes[self._block.head(row, spec.group)], 1)
            # Relative to the query's own position: softmax ignores the difference, and small
            # numbers keep their digits.
            distance = let(tirx.Cast("float32", self._first_key - position), 1)
            away = tirx.Cast(f"float32x{lanes}", key) + splat(distance, lanes)
            value = fma(splat(slope, lanes), away, value, lanes)
        return value
