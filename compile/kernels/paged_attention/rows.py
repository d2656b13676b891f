"""Turns positions into what they may see: which rows a block holds, which keys a row looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.vector_ir import Buffer, Expr, Register, T, index, let, maximum


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
class Block:
    """Which rows a block holds, as expressions."""

    sequence: Expr
    kv_head: Expr
    first_row: Expr  # of q: the row of the block's first token
    first_position: Expr  # of that token in its sequence
    num_rows: Expr  # query tokens times the heads of the group
    num_tiles: Expr
    end_key: Expr  # keys [0, end_key) are all that any row of the block may look at
    first_page: Expr
    end_page: Expr

    def token(self, row: Expr, group: int) -> Expr:
        """The row of q that block row `row` belongs to."""
        return self.first_row + tirx.floordiv(row, group)

    def position(self, row: Expr, group: int) -> Expr:
        return self.first_position + tirx.floordiv(row, group)

    def head(self, row: Expr, group: int) -> Expr:
        return self.kv_head * group + tirx.floormod(row, group)


class Rows:
    """Answers, in expressions, what a spec and its tensors say of sequences and positions."""

    def __init__(self, spec: PagedAttentionSpec, tensors: Tensors) -> None:
        self._spec, self._tensors = spec, tensors
        self.num_sequences = tensors.context_lengths.shape[0]

    def last_at_most(self, value: Expr, key: Callable[[Expr], Expr]) -> Expr:
        """The last sequence s with key(s) <= value, by bisection; key(0) is at most `value`."""
        low, high = Register(1, index(0), "int64"), Register(1, self.num_sequences, "int64")
        with T.While(high.value - low.value > 1):
            middle = let(tirx.floordiv(low.value + high.value, 2), 1, "int64")
            with T.If(key(middle) <= value):
                with T.Then():
                    low.set(middle)
                with T.Else():
                    high.set(middle)
        return low.value

    def first_key(self, position: Expr) -> Expr:
        """The first key that a query at `position` sees; later queries see none before it."""
        first = index(0)
        if self._spec.window:
            first = maximum(first, position - (self._spec.window - 1))
        if self._spec.chunk:
            first = maximum(first, position - tirx.floormod(position, self._spec.chunk))
        return first

    def end_key(self, position: Expr, sequence: Expr) -> Expr:
        if self._spec.causal:
            return position + 1
        return index(self._tensors.context_lengths[sequence])
