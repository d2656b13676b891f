"""Turns what happened lately into the figures of the engine view: tokens a second, percentiles."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection

from ingot.runtime.outputs import RequestStats

WINDOW_S = 5.0
BUCKET_S = 0.25
NUM_REQUESTS = 100


class Recent:
    """Tokens of the last seconds, times of the last requests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: deque[list[float]] = deque()  # [start, tokens]
        self._ttft: deque[float] = deque(maxlen=NUM_REQUESTS)
        self._tpot: deque[float] = deque(maxlen=NUM_REQUESTS)

    def add_tokens(self, count: int) -> None:
        now = self._clock()
        if not self._buckets or now - self._buckets[-1][0] >= BUCKET_S:
            self._forget(now)
            self._buckets.append([now, 0])
        self._buckets[-1][1] += count

    def add_output(self, stats: RequestStats) -> None:
        if stats.num_output_tokens:
            self._ttft.append(stats.ttft_s)
        if stats.num_output_tokens > 1:
            self._tpot.append(stats.tpot_s)

    def _forget(self, now: float) -> None:
        while self._buckets and now - self._buckets[0][0] > WINDOW_S:
            self._buckets.popleft()

    @property
    def output_tokens_per_s(self) -> float:
        self._forget(self._clock())
        return sum(count for _, count in self._buckets) / WINDOW_S

    def ttft_percentiles(self) -> dict[str, float] | None:
        return percentiles(self._ttft)

    def tpot_percentiles(self) -> dict[str, float] | None:
        return percentiles(self._tpot)


def percentiles(values: Collection[float]) -> dict[str, float] | None:
    """The median and the value that 95% stay below, None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return {"p50": ordered[len(ordered) // 2], "p95": ordered[len(ordered) * 95 // 100]}
