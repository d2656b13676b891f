"""What a compile did: each stage's time, what each rewrite matched, what is left for core Relax."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tvm

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, steps done and steps in all."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """One line of the report. `num_matched` is `None` for a stage that is no rewrite."""

    name: str
    seconds: float
    num_matched: int | None = None


@dataclass(slots=True)
class CompileReport:
    """Grows stage by stage; times are of this run and never part of the artifact."""

    stages: list[StageReport] = field(default_factory=list)
    leftover_operators: dict[str, int] = field(default_factory=dict)
    """Core operators that no rewrite took in, by name: what a new rewrite could still fuse."""
    spilling: list[str] = field(default_factory=list)
    """Kernels on a GPU that keep variables in memory for want of registers: they are slow."""
    sizes: str = ""
    """Where the sizes of the kernels come from: measured or guessed."""
    pending: str = ""
    """Why this machine can't run the artifact, so that its proof is pending."""

    @property
    def rewrites(self) -> dict[str, int]:
        """How often each rewrite matched, over all the times that it ran."""
        counts: dict[str, int] = {}
        for stage in self.stages:
            if stage.num_matched is not None:
                counts[stage.name] = counts.get(stage.name, 0) + stage.num_matched
        return counts

    def as_dict(self) -> dict[str, Any]:
        return {
            "stages": [
                {"name": s.name, "seconds": round(s.seconds, 3), "matched": s.num_matched}
                for s in self.stages
            ],
            "leftover_operators": dict(sorted(self.leftover_operators.items())),
            "sizes": self.sizes,
            "pending": self.pending,
            "spilling_kernels": sorted(set(self.spilling)),
        }


class Observer:
    """Times stages for the report, tells the progress bar and dumps the IR after each."""

    def __init__(self, progress: Progress | None, dump: Path | None) -> None:
        self.report = CompileReport()
        self._progress = progress or (lambda stage, done, total: None)
        self._dump = dump
        if dump is not None:
            dump.mkdir(parents=True, exist_ok=True)

    def progress(self, stage: str, done: int, total: int) -> None:
        self._progress(stage, done, total)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._progress(name, 0, 1)
        started = time.perf_counter()
        yield
        self.report.stages.append(StageReport(name, time.perf_counter() - started))
        self._progress(name, 1, 1)

    def rewritten(self, name: str, seconds: float, num_matched: int) -> None:
        self.report.stages.append(StageReport(name, seconds, num_matched))

    def dump(self, module: tvm.IRModule, name: str) -> None:
        """Write the module's text as `NN-name.py`."""
        if self._dump is not None:
            number = len(list(self._dump.glob("*.py")))
            path = self._dump / f"{number:02d}-{name}.py"
            path.write_text(module.script(show_meta=False), encoding="utf-8")
