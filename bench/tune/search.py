"""Candidates of every size to the best ones: built together, timed in turns, one size at a time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from ingot.bench.tune.trial import Bench, Timing, Tunable
from ingot.targets import Target
from ingot.targets.target import Size
from ingot.targets.tuned import Tuning

# A candidate replaces the guess only if it saves this much: less is what timings scatter by.
LEAST_GAIN = 0.02

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    size: Size
    best_s: float
    median_s: float


@dataclass(frozen=True, slots=True)
class Searched:
    """One size: its guess, what was chosen, and the times of all candidates."""

    name: str
    guess: Size
    chosen: Size
    candidates: tuple[Candidate, ...]

    @property
    def gain(self) -> float:
        """How much less time the chosen size takes than the guess."""
        times = {candidate.size: candidate.best_s for candidate in self.candidates}
        return 1 - times[self.chosen] / times[self.guess]


def tune(
    target: Target, bench: Bench, *, repetitions: int = 30, progress: Progress | None = None
) -> tuple[Tuning, tuple[Searched, ...]]:
    """Search every size for `target` on this machine. Sizes found so far hold for the next ones."""
    found: list[Searched] = []
    target = replace(target, tuned=())
    for tunable in bench.tunables:
        if progress is not None:
            progress(f"{tunable.name}: {', '.join(map(str, tunable.all_sizes))}")
        searched = search(tunable, target, bench.time, repetitions)
        found.append(searched)
        target = with_size(target, searched.name, searched.chosen)
    sizes = tuple(sorted(target.tuned))
    return Tuning(target.name, bench.device, bench.shapes, sizes), tuple(found)


def with_size(target: Target, name: str, size: Size) -> Target:
    return replace(target, tuned=(*target.tuned, (name, size)))


def search(tunable: Tunable, target: Target, time: Timing, repetitions: int) -> Searched:
    targets = [with_size(target, tunable.name, size) for size in tunable.all_sizes]
    times = time(tunable, targets, repetitions)
    candidates = tuple(
        Candidate(size, min(each), statistics.median(each))
        for size, each in zip(tunable.all_sizes, times, strict=True)
    )
    return Searched(tunable.name, tunable.guess, choose(tunable.guess, candidates), candidates)


def choose(guess: Size, candidates: tuple[Candidate, ...]) -> Size:
    """The fastest, unless the guess is nearly as fast."""
    fastest = min(candidates, key=lambda candidate: candidate.best_s)
    guessed = next(candidate for candidate in candidates if candidate.size == guess)
    return fastest.size if fastest.best_s < guessed.best_s * (1 - LEAST_GAIN) else guess
