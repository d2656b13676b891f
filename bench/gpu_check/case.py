"""What a kernel is checked with: its calls, their inputs and the outputs that are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.targets import Target

Array = NDArray[Any]

CASES_NAME, FUNCTION_NAME = "cases.json", "kernel"  # of what is prepared


@dataclass(frozen=True, slots=True)
class Inputs:
    """One call: arrays in the kernel's order, and the outputs that are right. These are its last
    arguments or, `in_place`, its first. A call that is only timed has the shape of its one output
    in their place. `num_bytes` are of weights, of keys and values, or else of all that is moved.
    """

    label: str
    arrays: list[Array]
    operations: int
    num_bytes: int
    expected: tuple[Array, ...] = ()
    bound: float = 0.0  # absolute
    timed_out_shape: tuple[int, ...] = ()
    in_place: bool = False

    def arguments(self) -> list[Array]:
        """Inputs and outputs, these full of what is no answer."""
        outs: list[Array] = []
        if self.timed_out_shape:
            outs = [np.empty(self.timed_out_shape, np.float32)]
        elif not self.in_place:
            outs = [np.empty_like(right) for right in self.expected]
        for out in outs:
            out.view(np.uint8).fill(0xFF)  # not a number, in bfloat16 as well
        return [*self.arrays, *outs]


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel, and its calls with inputs at random: these are drawn where it is checked, since
    they are a thousand times as large as its code."""

    name: str
    build: Callable[[Target], Any]  # its `PrimFunc`; needs the compiler
    calls: Callable[[np.random.Generator], Iterator[Inputs]]
