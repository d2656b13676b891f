"""What a block of the attention on tensor cores holds in shared memory; how contexts are split."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.tensor_core import ROWS
from ingot.compile.kernels.vector_ir import Expr, ceil_div, index, minimum

VALUES = 8  # of 16 bits, in a vector
MOST_SPANS = 128  # of a context: what the second kernel adds up, and has memory for
SHORT_SPANS = 8  # a context of so many spans, or fewer, has twice as many of half the length


@dataclass(frozen=True, slots=True)
class Shape:
    """How many warps, and how many pages are in shared memory."""

    spec: PagedAttentionSpec
    warps: int
    stages: int

    @property
    def query_vectors(self) -> int:
        return self.warps * (self.spec.key_dim // ROWS) * 2 * WARP

    @property
    def key_vectors(self) -> int:
        return self.spec.key_dim * self.spec.page_size // VALUES

    @property
    def page_vectors(self) -> int:
        return self.key_vectors + self.spec.page_size * self.spec.value_dim // VALUES

    @property
    def vectors(self) -> int:
        return self.query_vectors + self.stages * self.page_vectors


def turned(row: Expr, vector: Expr, per_row: int) -> Expr:
    """Where a row's vector lies in it."""
    if per_row & (per_row - 1):
        return vector
    if per_row >= 8:
        return vector ^ tirx.floormod(row, 8)
    return vector ^ tirx.floormod(tirx.floordiv(row, 8 // per_row), per_row)


@dataclass(frozen=True, slots=True)
class Spans:
    """How the context of few rows is split: by its own length, so that no other sequence changes a
    row's bits. Short contexts have shorter spans, or most of a GPU would have nothing to read."""

    tokens: int
    page_size: int

    @property
    def _shortest(self) -> int:
        half = self.tokens // 2
        return self.tokens if half % self.page_size else half

    def length(self, context: Expr) -> Expr:
        """The positions of a span: a multiple of the page size."""
        usual = ceil_div(context, MOST_SPANS * self.tokens) * self.tokens
        is_short = context <= SHORT_SPANS * self.tokens
        return tirx.Select(is_short, index(self._shortest), usual)

    def most(self, positions: Expr) -> Expr:
        """The largest number of spans of any context that fits into so many positions."""
        short = minimum(ceil_div(positions, self._shortest), index(2 * SHORT_SPANS))
        usual = minimum(ceil_div(positions, self.tokens), index(MOST_SPANS))
        return tirx.Max(short, usual)
