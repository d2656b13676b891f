"""One write to the cache: the shapes of keys, values and pages, and where the rows lie."""

from __future__ import annotations

from dataclasses import dataclass

from ingot.compile.kernels.rope.spec import RopeSpec


@dataclass(frozen=True, slots=True)
class KvWriteSpec:
    """Key and value may be columns of wider rows: `*_row_width` and `*_column_offset`."""

    kv_heads: int
    key_dim: int
    value_dim: int
    kv_dtype: str = "float32"
    page_size: int = 32
    key_row_width: int = 0
    key_column_offset: int = 0
    value_row_width: int = 0
    value_column_offset: int = 0
    rope: RopeSpec | None = None

    def __post_init__(self) -> None:
        if not self.key_row_width:
            object.__setattr__(self, "key_row_width", self.kv_heads * self.key_dim)
        if not self.value_row_width:
            object.__setattr__(self, "value_row_width", self.kv_heads * self.value_dim)
        if self.rope is not None:
            assert self.rope.num_heads == self.kv_heads, self
            assert self.rope.head_dim == self.key_dim, self
            assert self.rope.row_width == self.key_row_width, self
            assert self.rope.column_offset == self.key_column_offset, self
