"""Turns x, or gate and up, into activated values in float64: what the activation kernels mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Float) -> Float:
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))


def gelu_tanh(x: Float) -> Float:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


FUNCTIONS: dict[str, Callable[[Float], Float]] = {
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x * math.sqrt(0.5))) if x.size else x,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
}


def reference(kind: str, gate: NDArray[np.float32], up: NDArray[np.float32] | None = None) -> Float:
    """act(gate), times `up` where given."""
    value = FUNCTIONS[kind](gate.astype(np.float64))
    return value if up is None else value * up
