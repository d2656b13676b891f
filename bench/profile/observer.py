"""What the virtual machine calls before and after everything that it calls, and what that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.ffi import tvm_ffi

Clock = Callable[[], int]
LEAST_CALL = "vm.builtin.tuple_getitem"
CALIBRATION_ROUNDS, CALIBRATION_CALLS = 10, 100


@dataclass(frozen=True, slots=True)
class ObservedCall:
    name: str
    seconds: float  # the observer's own share included


class Observer:
    """Called by the virtual machine before and after each call; steps are alike, call by call."""

    def __init__(self, clock: Clock = time.perf_counter_ns) -> None:
        self._clock = clock
        self.arguments: dict[str, tuple[Any, ...]] = {}  # of one call of each function
        self._names: list[str] = []
        self._steps: list[list[int]] = []
        self._times: list[int] = []

    def start_step(self) -> None:
        self._names = []
        self._times = []
        self._steps.append(self._times)

    def __call__(self, _function: Any, name: str, before: bool, _result: Any, *args: Any) -> None:
        # The clock is read last before the call and first after it.
        if not before:
            self._times.append(self._clock())
        else:
            self._names.append(name)
            self.arguments.setdefault(name, args)
            self._times.append(self._clock())

    def calls(self, kept: NDArray[np.intp]) -> list[ObservedCall]:
        """Each call of a step, with its mean over some of the steps after the first."""
        steps = np.array(self._steps[1:], np.int64)[kept]  # the first one warms up
        means = (steps[:, 1::2] - steps[:, 0::2]).mean(axis=0) / 1e9
        return [
            ObservedCall(name, float(seconds))
            for name, seconds in zip(self._names, means, strict=True)
        ]


def call_overhead(args: tuple[Any, ...]) -> float:
    """What of the observer falls between its readings of the clock for a call with these arguments:
    about as much as a call of an empty Python function through the same interface."""
    empty = tvm_ffi.convert(lambda *args: None)

    def cost() -> float:
        start = time.perf_counter()
        for _ in range(CALIBRATION_CALLS):
            empty(True, LEAST_CALL, None, *args)
        return (time.perf_counter() - start) / CALIBRATION_CALLS

    return min(cost() for _ in range(CALIBRATION_ROUNDS))
