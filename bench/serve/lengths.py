"""Turns `fixed:128`, `uniform:16:512` or `lognormal:200:0.6` into random lengths in tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ingot.errors import UsageError

FORMS = "N, fixed:N, uniform:LOW:HIGH or lognormal:MEDIAN:SIGMA[:MAX]"
MAX_RATIO = 8.0  # a lognormal length is at most this many medians, unless a maximum is given


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of whole numbers from 1. `low` and `high` are its ends, both included.

    sigma is 0 for a uniform distribution, else that of the logarithm of a lognormal one around
    `median`, cut at both ends.
    """

    text: str
    low: int
    high: int
    median: float = 0.0
    sigma: float = 0.0

    def draw(self, rng: np.random.Generator) -> int:
        if self.sigma == 0:
            return int(rng.integers(self.low, self.high + 1))
        value = round(self.median * math.exp(self.sigma * rng.standard_normal()))
        return min(max(value, self.low), self.high)


def parse_lengths(text: str) -> Lengths:
    kind, *parts = text.split(":") if ":" in text else ("fixed", text)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise _wrong(text) from None
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise _wrong(text)
    whole = [int(number) for number in numbers]
    if kind == "fixed" and len(numbers) == 1 and whole == numbers:
        return Lengths(text, whole[0], whole[0])
    if kind == "uniform" and len(numbers) == 2 and whole == numbers and whole[0] <= whole[1]:
        return Lengths(text, whole[0], whole[1])
    if kind == "lognormal" and len(numbers) in (2, 3):
        median, sigma = numbers[:2]
        high = numbers[2] if len(numbers) == 3 else median * MAX_RATIO
        if high >= max(median, 1):
            return Lengths(text, 1, int(high), median, sigma)
    raise _wrong(text)


def _wrong(text: str) -> UsageError:
    return UsageError(f"{text!r} is not a length in tokens; it is {FORMS}")
