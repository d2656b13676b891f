"""Turns measured steps into what a step of any size would take."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

# Of a new measurement. The machine's pace changes at once, when others work on it or leave; plain
# steps tell it. How much more a larger step takes is a property of the model, and often doubted.
PACE_WEIGHT = 0.2
PLAIN_WEIGHT = 0.1
LARGER_WEIGHT = 0.25
OUTLIER = 2.0  # times what was expected, or a part of it, is all that one measurement may say
UNKNOWN_SLOPE = 0.03  # of the largest known step's time for each more token: low, to be tried
FORGOTTEN = 0.001  # of what larger steps take more, at each smaller one


@dataclass(slots=True)
class StepCost:
    """Seconds of a step by its number of tokens, each of which wants logits."""

    _pace: float = 1.0
    _sizes: list[int] = field(default_factory=list)  # ascending
    _times: list[float] = field(default_factory=list)  # at the usual pace

    def record(self, num_tokens: int, seconds: float, *, is_plain: bool = True) -> None:
        at = bisect_left(self._sizes, num_tokens)
        if not self.knows(num_tokens):
            self._sizes.insert(at, num_tokens)
            self._times.insert(at, seconds / self._pace)
            return
        ratio = seconds / (self._pace * self._times[at])
        ratio = min(max(ratio, 1 / OUTLIER), OUTLIER)
        if is_plain:
            self._pace *= 1 + PACE_WEIGHT * (ratio - 1)
        self._times[at] *= 1 + (PLAIN_WEIGHT if is_plain else LARGER_WEIGHT) * (ratio - 1)

    def forget(self, num_tokens: int) -> None:
        """A step of that size was taken: what is known of larger ones is a little older."""
        at = bisect_left(self._sizes, num_tokens)
        base = self._times[at]
        for larger in range(at + 1, len(self._times)):
            self._times[larger] -= FORGOTTEN * max(0.0, self._times[larger] - base)

    def knows(self, num_tokens: int) -> bool:
        """Whether a step of that size was measured."""
        at = bisect_left(self._sizes, num_tokens)
        return at < len(self._sizes) and self._sizes[at] == num_tokens

    @property
    def largest(self) -> int:
        """The largest step that was measured."""
        return self._sizes[-1]

    def predict(self, num_tokens: int) -> float:
        """A line between measured sizes, the nearest below all, a hopeful slope beyond all."""
        return self._pace * self._interpolate(num_tokens)

    def _interpolate(self, num_tokens: int) -> float:
        at = bisect_left(self._sizes, num_tokens)
        if at == len(self._sizes):
            last = self._times[-1]
            return last * (1 + UNKNOWN_SLOPE * (num_tokens - self._sizes[-1]))
        if at == 0 or self._sizes[at] == num_tokens:
            return self._times[at]
        low, high = self._sizes[at - 1], self._sizes[at]
        share = (num_tokens - low) / (high - low)
        return self._times[at - 1] + share * (self._times[at] - self._times[at - 1])
