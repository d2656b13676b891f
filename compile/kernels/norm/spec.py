"""One norm: its kind, what it scales and shifts by, and where its rows lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class NormSpec:
    """weight and bias are [width], or [rows_per_token * width] with `weight_per_row`."""

    kind: Literal["rms", "layer"]
    width: int
    eps: float
    has_weight: bool = True
    has_bias: bool = False
    residual: bool = False
    rows_per_token: int = 1
    row_width: int = 0
    column_offset: int = 0
    weight_per_row: bool = False

    def __post_init__(self) -> None:
        if not self.row_width:
            object.__setattr__(self, "row_width", self.rows_per_token * self.width)
        assert self.kind in ("rms", "layer"), self
        assert self.column_offset + self.rows_per_token * self.width <= self.row_width, self
