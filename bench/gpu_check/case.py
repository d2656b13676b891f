"""What a kernel is checked with: its calls, their inputs and the outputs that are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ingot.bench.gpu_check.random_values import RandomArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Inputs:
    """One call: arrays in the kernel's order, and the outputs that are right, which are its last
    arguments. A call that is only timed has the shape of its one output in their place. `num_bytes`
    are of weights, of keys and values, or else of all that is moved."""

    label: str
    arrays: list[Array | RandomArray]
    operations: int
    num_bytes: int
    expected: tuple[Array, ...] = ()
    bound: float = 0.0  # absolute
    timed_out_shape: tuple[int, ...] = ()

    @property
    def outs(self) -> list[dict[str, Any]]:
        """Shape and type of each output."""
        if not self.expected:
            return [{"shape": self.timed_out_shape, "dtype": "float32"}]
        return [{"shape": out.shape, "dtype": str(out.dtype)} for out in self.expected]


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel and its calls."""

    name: str
    operator: str
    spec: Any
    inputs: list[Inputs]
