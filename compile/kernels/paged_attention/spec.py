"""What an attention layer is, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SPAN_TOKENS = 512  # a multiple of every page size; the unit in which a context is split over cores


@dataclass(frozen=True, slots=True)
class PagedAttentionSpec:
    """What differs between attention layers. 0 means no window, no chunk, no softcap."""

    num_heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    scale: float
    window: int = 0  # a query at i sees keys j with i - j < window
    chunk: int = 0  # a query at i sees keys j with j // chunk == i // chunk
    softcap: float = 0.0
    causal: bool = True
    has_sinks: bool = False
    has_slopes: bool = False
    kv_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    page_size: int = 32
    row_width: int = 0
    column_offset: int = 0

    def __post_init__(self) -> None:
        if not self.row_width:
            object.__setattr__(self, "row_width", self.num_heads * self.key_dim)
        assert self.num_heads % self.kv_heads == 0, self
        assert SPAN_TOKENS % self.page_size == 0, self
        assert self.column_offset + self.num_heads * self.key_dim <= self.row_width, self

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.num_heads // self.kv_heads
