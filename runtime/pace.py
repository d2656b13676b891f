"""Turns the moments when requests finish into how long others will wait."""

from __future__ import annotations

from dataclasses import dataclass

SMOOTHING = 0.1  # the weight of the newest interval
SHORTEST_S, LONGEST_S = 1.0, 60.0


@dataclass(slots=True)
class Pace:
    """The mean time from one finished request to the next, the latest counting most."""

    _interval_s: float | None = None
    _last_s: float | None = None

    def finished(self, now_s: float, *, is_idle: bool) -> None:
        """Note that a request has finished; with `is_idle`, none is left."""
        if self._last_s is not None:
            interval_s = now_s - self._last_s
            mean_s = interval_s if self._interval_s is None else self._interval_s
            self._interval_s = mean_s + SMOOTHING * (interval_s - mean_s)
        # What passes while there is nothing to do says nothing about speed.
        self._last_s = None if is_idle else now_s

    def time_for(self, num_requests: int) -> float:
        """Seconds until that many more have finished, within bounds that a client can keep."""
        return min(max(SHORTEST_S, num_requests * (self._interval_s or 0.0)), LONGEST_S)
