"""One gather of rows: how wide they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatherRowsSpec:
    """Rows of `width` columns."""

    width: int
