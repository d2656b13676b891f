"""Turns the softmax of spans of a context into that of the whole, in the order of the spans."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.paged_attention.rows import Block, Rows, Tensors
from ingot.compile.kernels.paged_attention.spec import SPAN_TOKENS, PagedAttentionSpec
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    T,
    ceil_div,
    fma,
    index,
    let,
    load,
    maximum,
    otherwise_if,
    pieces,
    splat,
    store,
)
from ingot.compile.kernels.vector_math import LOWEST, exp


@dataclass(frozen=True, slots=True)
class Softmax:
    """Running maximum, sum and weighted values of rows."""

    maximum: Buffer  # [rows]
    total: Buffer  # [rows, total_lanes]: within a span lanes are summed only at its end
    output: Buffer  # [rows, value_dim]
    num_rows: int
    total_lanes: int
    output_pieces: tuple[tuple[int, int], ...]

    @staticmethod
    def allocate(num_rows: int, value_dim: int, lanes: int, *, total_lanes: int) -> Softmax:
        return Softmax(
            T.alloc_buffer((num_rows,)),
            T.alloc_buffer((num_rows, total_lanes)),
            T.alloc_buffer((num_rows, value_dim)),
            num_rows,
            total_lanes,
            pieces(value_dim, lanes),
        )

    def clear(self) -> None:
        """No key seen yet, in any row."""
        with T.serial(index(self.num_rows)) as row:
            T.buffer_store(self.maximum, tirx.const(LOWEST, "float32"), [row])
            store(self.total, (row, index(0)), splat(0.0, self.total_lanes), self.total_lanes)
            for offset, lanes in self.output_pieces:
                store(self.output, (row, index(offset)), splat(0.0, lanes), lanes)


class SpanMerger:
    """Emits the merging of spans and the last division.

    `partials` holds, where spans are attended to in parallel, the output, maximum and sum of each:
    one row for (token, head, span).
    """

    def __init__(
        self,
        spec: PagedAttentionSpec,
        tensors: Tensors,
        partials: Buffer,
        num_spans: Expr,
        lanes: int,
    ) -> None:
        self._spec, self._tensors, self._partials = spec, tensors, partials
        self._rows = Rows(spec, tensors)
        self._num_spans = num_spans
        self._lanes = lanes

    def merge(
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
        for offset, lanes in whole.output_pieces:
            kept = load(whole.output, (row, index(offset)), lanes) * splat(keep, lanes)
            taken = load(part_output, (part_row, index(offset)), lanes)
            value = fma(taken, splat(take, lanes), kept, lanes)
            store(whole.output, (row, index(offset)), value, lanes)

    def finish(self, whole: Softmax, row: Expr, token: Expr, head: Expr, position: Expr) -> None:
        """Divide by the sum (and the sink's share of it) and write the row out."""
        total, scale = let(whole.total[row, 0], 1), tirx.const(1.0, "float32")
        if self._tensors.sinks is not None:
            old, sink = let(whole.maximum[row], 1), let(self._tensors.sinks[head], 1)
            if self._tensors.slopes is not None:
                sink = let(sink - self._tensors.slopes[head] * tirx.Cast("float32", position), 1)
            new = let(maximum(old, sink), 1)
            scale = exp(old - new, 1)
            total = let(fma(total, scale, exp(sink - new, 1), 1), 1)
        zero = tirx.const(0.0, "float32")
        factor = let(tirx.Select(total > zero, scale / total, zero), 1)
        for offset, lanes in whole.output_pieces:
            value = load(whole.output, (row, index(offset)), lanes) * splat(factor, lanes)
            column = head * self._spec.value_dim + offset
            store(self._tensors.out, (token, column), value, lanes)

    def store_partial(
        self, block: Block, span: Expr, row: Expr, part: Softmax, total: Expr
    ) -> None:
        group = self._spec.group
        where = self._partial_row(block.token(row, group), block.head(row, group), span)
        width = self._spec.value_dim
        for offset, lanes in part.output_pieces:
            value = load(part.output, (row, index(offset)), lanes)
            store(self._partials, (where, index(offset)), value, lanes)
        T.buffer_store(self._partials, part.maximum[row], [where, width])
        T.buffer_store(self._partials, total, [where, width + 1])

    def _partial_row(self, token: Expr, head: Expr, span: Expr) -> Expr:
        return let((token * self._spec.num_heads + head) * self._num_spans + span, 1, "int64")

    def merge_row(self, token: Expr, head: Expr) -> None:
        """Merge the spans of one head of one token, in the order that one core would."""
        offsets, spec = self._tensors.query_offsets, self._spec
        token, head = let(token, 1, "int64"), let(head, 1, "int64")
        with otherwise_if(token < index(offsets[self._rows.num_sequences])):
            sequence = self._rows.last_at_most(token, lambda s: index(offsets[s]))
            after = index(offsets[sequence + 1]) - token
            context = index(self._tensors.context_lengths[sequence])
            position = let(context - after, 1, "int64")
            begin = let(tirx.floordiv(self._rows.first_key(position), SPAN_TOKENS), 1, "int64")
            end = let(ceil_div(self._rows.end_key(position, sequence), SPAN_TOKENS), 1, "int64")
            whole = Softmax.allocate(1, spec.value_dim, self._lanes, total_lanes=1)
            whole.clear()
            with T.serial(end - begin) as i:
                where = self._partial_row(token, head, begin + i)
                part_maximum = self._partials[where, spec.value_dim]
                part_total = self._partials[where, spec.value_dim + 1]
                self.merge(whole, index(0), part_maximum, part_total, self._partials, where)
            self.finish(whole, index(0), token, head, position)
