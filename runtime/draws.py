"""Turns a seed and a place into the random number that is drawn there.

Each number depends on nothing but its seed, which of a request's outputs it is for and its place
in that output: batching, preemption and speculation draw at the same places and so choose the same
tokens.
"""

from __future__ import annotations

import secrets

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: multiples are spread evenly


def _mix(bits: int) -> int:
    """The finalizer of SplitMix64: every bit in depends on every bit out."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


def draw_key(seed: int | None, output: int) -> int:
    """The key of one output of a request; without a seed no other output has it."""
    if seed is None:
        return secrets.randbits(64)
    return _mix((_mix((seed + _GOLDEN) & _MASK) + output * _GOLDEN) & _MASK)


def draw(key: int, place: int) -> float:
    """A number in [0, 1) that a float32 holds exactly: rounded up, it could be 1."""
    return (_mix((key + (place + 1) * _GOLDEN) & _MASK) >> 40) * 2.0**-24
