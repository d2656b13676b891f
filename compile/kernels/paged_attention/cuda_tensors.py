"""The arguments of an attention kernel on a GPU, by name, and what a row of them sees."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import let
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.rope.cuda import rotated
from ingot.compile.kernels.vector_ir import Buffer, Expr, index
from ingot.runtime.artifact.kv_layout import slab_index


@dataclass(frozen=True, slots=True)
class Tensors:
    """n tokens of b sequences with up to p pages each; the buffers as `cuda.py` declares them."""

    n: Expr
    b: Expr
    p: Expr
    query: Buffer
    key_pool: Buffer
    value_pool: Buffer
    page_table: Buffer
    query_offsets: Buffer
    context_lengths: Buffer
    sinks: Buffer | None
    slopes: Buffer | None
    tables: tuple[Buffer, Buffer] | None  # cosine and sine, where queries are rotated here
    out: Buffer

    def slab(self, spec: PagedAttentionSpec, sequence: Expr, page: Expr, kv_head: Expr) -> Expr:
        """Where the pools hold page `page` of a sequence for one KV head."""
        number = let(index(self.page_table[sequence, page]), "int64")
        return let(slab_index(number, kv_head, spec.kv_heads), "int64")

    def query_value(self, spec: PagedAttentionSpec, row: Expr, head: Expr, d: Expr) -> Expr:
        """Element `d` of a token's query, rotated and scaled."""
        column = head * spec.key_dim + spec.column_offset
        if spec.rope is None or self.tables is None:
            value = self.query[row, column + d]
        else:
            value = rotated(spec.rope, self.query, *self.tables, row, column, d)
        return value * tirx.const(spec.scale, "float32")


def visible_range(spec: PagedAttentionSpec, position: Expr, context: Expr) -> tuple[Expr, Expr]:
    """The key positions [begin, end) that the query at `position` sees: always one range."""
    begin, end = index(0), context
    if spec.causal:
        end = tirx.Min(end, position + 1)
    if spec.window:
        begin = tirx.Max(begin, position - (spec.window - 1))
    if spec.chunk:
        first = tirx.floordiv(position, spec.chunk) * spec.chunk
        begin, end = tirx.Max(begin, first), tirx.Min(end, first + spec.chunk)
    return let(begin, "int64"), let(end, "int64")
