"""One rotation: how heads are cut into pairs, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """`interleaved` turns pairs (2i, 2i+1), otherwise (i, i + rotary_dim/2).

    cos_width is rotary_dim, or half of it when both members of a pair share a column.
    """

    num_heads: int
    head_dim: int
    rotary_dim: int
    interleaved: bool = False
    cos_width: int = 0
    row_width: int = 0
    column_offset: int = 0

    def __post_init__(self) -> None:
        if not self.cos_width:
            object.__setattr__(self, "cos_width", self.rotary_dim)
        if not self.row_width:
            object.__setattr__(self, "row_width", self.num_heads * self.head_dim)
        assert self.rotary_dim % 2 == 0 and self.rotary_dim <= self.head_dim, self
        assert self.cos_width in (self.rotary_dim, self.rotary_dim // 2), self
        assert self.column_offset + self.num_heads * self.head_dim <= self.row_width, self
