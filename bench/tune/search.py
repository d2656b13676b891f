"""Candidates of every size to the best ones: built together, timed in turns, one size at a time."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ingot.bench.limits.measure import build_library
from ingot.bench.limits.measurements import Measurement
from ingot.bench.profile.measure import times_in_turns
from ingot.bench.tune.trials import Tunable, tunables
from ingot.runtime.amx import allow_tiles
from ingot.runtime.vm import VirtualMachine, as_tensor
from ingot.targets import Target, detect_cpu
from ingot.targets.tuned import Tuning

# A candidate replaces the guess only if it saves this much: less is what timings scatter by.
LEAST_GAIN = 0.02

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    size: int
    best_s: float
    median_s: float


@dataclass(frozen=True, slots=True)
class Searched:
    """One size: its guess, what was chosen, and the times of all candidates."""

    name: str
    guess: int
    chosen: int
    candidates: tuple[Candidate, ...]

    @property
    def gain(self) -> float:
        """How much less time the chosen size takes than the guess."""
        times = {candidate.size: candidate.best_s for candidate in self.candidates}
        return 1 - times[self.chosen] / times[self.guess]


def tune(
    target: Target,
    threads: int,
    *,
    repetitions: int = 30,
    scale: int = 1,
    progress: Progress | None = None,
) -> tuple[Tuning, tuple[Searched, ...]]:
    """Search every size for `target` on this machine. Sizes found so far hold for the next ones."""
    found: list[Searched] = []
    target = replace(target, tuned=())
    for tunable in tunables(target, scale):
        if progress is not None:
            progress(f"{tunable.name}: {', '.join(map(str, tunable.all_sizes))}")
        searched = search(tunable, target, threads, repetitions)
        found.append(searched)
        target = replace(target, tuned=(*target.tuned, (searched.name, searched.chosen)))
    sizes = tuple(sorted(target.tuned))
    return Tuning(target.name, detect_cpu().model_name, threads, sizes), tuple(found)


def search(tunable: Tunable, target: Target, threads: int, repetitions: int) -> Searched:
    trial = tunable.trial
    measurements = [
        Measurement(
            name=f"size_{size}",
            unit="s",
            amount=1.0,
            function=trial.build(replace(target, tuned=(*target.tuned, (tunable.name, size)))),
            arguments=trial.arguments,
            out_shape=trial.out_shape,
            out_dtype="float32",
            how="",
        )
        for size in tunable.all_sizes
    ]
    with tempfile.TemporaryDirectory(prefix="ingot-tune-") as folder:
        library = Path(folder) / "candidates.so"
        build_library(measurements, target, library)
        allow_tiles(target.features)
        vm = VirtualMachine(library, threads)
        arguments = [as_tensor(array) for array in trial.arguments]

        def call(name: str) -> Callable[[], object]:
            return lambda: vm.call(name, *arguments)

        times = times_in_turns(*(call(m.name) for m in measurements), repetitions=repetitions)
    candidates = tuple(
        Candidate(size, min(each), statistics.median(each))
        for size, each in zip(tunable.all_sizes, times, strict=True)
    )
    return Searched(tunable.name, tunable.guess, choose(tunable.guess, candidates), candidates)


def choose(guess: int, candidates: tuple[Candidate, ...]) -> int:
    """The fastest, unless the guess is nearly as fast."""
    fastest = min(candidates, key=lambda candidate: candidate.best_s)
    guessed = next(candidate for candidate in candidates if candidate.size == guess)
    return fastest.size if fastest.best_s < guessed.best_s * (1 - LEAST_GAIN) else guess
