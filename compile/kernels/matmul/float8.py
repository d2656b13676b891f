"""float32 arrays to 8-bit floats (e4m3: a sign, 4 bits of exponent, 3 of mantissa), and back.

The finite values of the OCP specification's E4M3: up to 448, no infinities, 2^-9 the smallest. A
value that is too large becomes 448, as the GPU's conversion has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LARGEST = 448.0
_SMALLEST_NORMAL = np.float32(2**-6)
_STEPS_PER_ONE = np.float32(2**9)  # of the subnormal numbers
_NAN, _LARGEST_BITS = np.uint32(0x7F), np.uint32(0x7E)


def float32_to_e4m3(values: Floats) -> NDArray[np.uint8]:
    """The bits of the nearest number, ties to even; NaN stays NaN."""
    signed = np.ascontiguousarray(values, np.float32).view(np.uint32)
    bits = signed & np.uint32(0x7FFFFFFF)
    magnitude = bits.view(np.float32)
    # float32 has 20 more bits of mantissa, and 120 more in its exponent's bias.
    rounded = (bits + np.uint32(0x7FFFF) + ((bits >> 20) & np.uint32(1))) >> 20
    rounded -= np.minimum(rounded, np.uint32(120 << 3))
    tiny = magnitude < _SMALLEST_NORMAL
    steps = np.rint(np.where(tiny, magnitude, np.float32(0)) * _STEPS_PER_ONE)
    code = np.where(tiny, steps.astype(np.uint32), np.minimum(rounded, _LARGEST_BITS))
    code = np.where(np.isnan(values), _NAN, code)
    bytes_: NDArray[np.uint8] = (code | (signed >> 31 << 7)).astype(np.uint8)
    return bytes_


def e4m3_to_float32(bits: NDArray[np.uint8]) -> Floats:
    """Widen, exactly."""
    return _VALUES[bits]


def _values() -> Floats:
    """What each of the 256 bytes stands for."""
    code = np.arange(128)
    exponent, mantissa = code >> 3, code & 7
    magnitude = np.where(exponent == 0, mantissa, mantissa + 8) * 2.0 ** (
        np.maximum(exponent, 1) - 10
    )
    magnitude[_NAN] = np.nan
    return np.concatenate((magnitude, -magnitude)).astype(np.float32)


_VALUES = _values()
