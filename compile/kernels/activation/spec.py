"""One activation: which function, of how many columns, and where its gate is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ActivationSpec:
    """`width` columns out; `gated` says where the gate is: nowhere, in gate_up, or on its own."""

    kind: str
    width: int
    gated: Literal["", "gate_up", "separate"] = ""
