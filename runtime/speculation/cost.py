"""Turns measured steps into what a step of any size would take."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

WEIGHT = 0.1  # of a new measurement
WEIGHT_FASTER = 0.4  # of one below the average: a busy machine only makes steps slower
OUTLIER = 2.0  # times the average is all that one measurement may say
UNKNOWN_SLOPE = 0.05  # of the largest known step's time for each more token: low, to be tried


@dataclass(slots=True)
class StepCost:
    """Seconds of a step by its number of tokens, each of which wants logits."""

    _sizes: list[int] = field(default_factory=list)  # ascending
    _seconds: list[float] = field(default_factory=list)

    def record(self, num_tokens: int, seconds: float) -> None:
        at = bisect_left(self._sizes, num_tokens)
        if at == len(self._sizes) or self._sizes[at] != num_tokens:
            self._sizes.insert(at, num_tokens)
            self._seconds.insert(at, seconds)
            return
        known = self._seconds[at]
        weight = WEIGHT_FASTER if seconds < known else WEIGHT
        self._seconds[at] = known + weight * (min(seconds, OUTLIER * known) - known)

    def predict(self, num_tokens: int) -> float:
        """A line between measured sizes, the nearest below all, a hopeful slope beyond all."""
        at = bisect_left(self._sizes, num_tokens)
        if at == len(self._sizes):
            last = self._seconds[-1]
            return last * (1 + UNKNOWN_SLOPE * (num_tokens - self._sizes[-1]))
        if at == 0 or self._sizes[at] == num_tokens:
            return self._seconds[at]
        low, high = self._sizes[at - 1], self._sizes[at]
        share = (num_tokens - low) / (high - low)
        return self._seconds[at - 1] + share * (self._seconds[at] - self._seconds[at - 1])
