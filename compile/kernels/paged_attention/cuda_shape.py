"""What a block of the attention on tensor cores holds in shared memory, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.tensor_core import ROWS
from ingot.compile.kernels.vector_ir import Expr

VALUES = 8  # of 16 bits, in a vector


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
