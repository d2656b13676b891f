"""What a process has asked of its emulated GPU, to differences between two looks."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """In the order of driver.h. Kernels of a graph count once, as the graph."""

    launches: int
    graph_launches: int
    copies_in: int
    copies_out: int
    other_copies: int
    allocations: int
    waits: int

    def __sub__(self, before: Counts) -> Counts:
        mine, others = self.values(), before.values()
        return Counts(*(now - then for now, then in zip(mine, others, strict=True)))

    def values(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in Counts.__dataclass_fields__)


def read_counts() -> Counts:
    """Since the process started."""
    size = len(Counts.__dataclass_fields__)
    library = ctypes.CDLL("libcuda.so.1")
    return Counts(*(ctypes.c_ulong * size).in_dll(library, "emulated_gpu_counts"))
