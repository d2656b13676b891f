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
FIRST_OUTLIER = 10.0  # the same for a plain step of a size that was not measured before
UNKNOWN_SLOPE = 0.03  # of the largest known step's time for each more token: low, to be tried
FORGOTTEN = 0.001  # of what larger steps take more, at each plain one since they were measured


@dataclass(slots=True)
class StepCost:
    """Seconds of a step by its number of tokens, each of which wants logits."""

    _pace: float = 1.0
    _sizes: list[int] = field(default_factory=list)  # ascending
    _times: list[float] = field(default_factory=list)  # at the usual pace
    _measured: list[int] = field(default_factory=list)  # after how many plain steps
    _num_plain: int = 0

    def record(self, num_tokens: int, seconds: float, *, is_plain: bool = True) -> None:
        at = bisect_left(self._sizes, num_tokens)
        if at == len(self._sizes) or self._sizes[at] != num_tokens:
            if is_plain and self._sizes:
                seconds = min(seconds, FIRST_OUTLIER * self.predict(num_tokens))
            self._sizes.insert(at, num_tokens)
            self._times.insert(at, seconds / self._pace)
            self._measured.insert(at, self._num_plain)
            return
        ratio = seconds / (self._pace * self._times[at])
        ratio = min(max(ratio, 1 / OUTLIER), OUTLIER)
        if is_plain:
            self._pace *= 1 + PACE_WEIGHT * (ratio - 1)
        self._times[at] *= 1 + (PLAIN_WEIGHT if is_plain else LARGER_WEIGHT) * (ratio - 1)
        self._measured[at] = self._num_plain

    def count_plain(self) -> None:
        """A plain step was taken: what is known of larger ones is a little older."""
        self._num_plain += 1

    def knows(self, num_tokens: int) -> bool:
        """Whether a step of that size was measured."""
        at = bisect_left(self._sizes, num_tokens)
        return at < len(self._sizes) and self._sizes[at] == num_tokens

    @property
    def largest(self) -> int:
        """The largest step that was measured."""
        return self._sizes[-1]

    def predict(self, num_tokens: int, plain: int | None = None) -> float:
        """A line between measured sizes, the nearest below all, a hopeful slope beyond all.

        With the size of a `plain` step, what larger ones take more is believed the less, the longer
        ago it was measured."""
        at = bisect_left(self._sizes, num_tokens)
        base = None if plain is None else self._pace * self._times[bisect_left(self._sizes, plain)]
        if at == len(self._sizes):
            last = self._known(at - 1, base)
            return last * (1 + UNKNOWN_SLOPE * (num_tokens - self._sizes[-1]))
        if at == 0 or self._sizes[at] == num_tokens:
            return self._known(at, base)
        low, high = self._sizes[at - 1], self._sizes[at]
        share = (num_tokens - low) / (high - low)
        below, above = self._known(at - 1, base), self._known(at, base)
        return below + share * (above - below)

    def _known(self, at: int, base: float | None) -> float:
        seconds = self._pace * self._times[at]
        if base is None or seconds <= base:
            return seconds
        age = self._num_plain - self._measured[at]
        return base + (seconds - base) / (1 + FORGOTTEN * age)
