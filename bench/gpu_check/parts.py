"""A prepared folder to its parts, each run in a process of its own within the time that is left.

A part that crashes, finds no memory or hangs says so in its record and takes no other with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingot.bench.gpu_check.plan import DEMO, Plan, artifact_folder
from ingot.bench.gpu_check.random_values import drop_from_cache, fill_weights, remove_weights
from ingot.bench.process import describe_end, timed_environment

COLD_SCHEME = "w4"
"""Whose artifacts are read from the disk for their first token; others are in the page cache."""

WAYS = ("limits", "kernels", "proof", "ingot", "eager", "torch-compile")


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to do: `way`, `of` which model; `about_s` is what it is guessed to take on an H100,
    for it is not begun with less time left."""

    way: str
    about_s: float
    of: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " ".join((self.way, *self.of))


@dataclass(slots=True)
class Record:
    """What became of a part: a result, or why there is none."""

    way: str
    of: tuple[str, ...]
    seconds: float = 0.0
    left_out: str = ""
    failed: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.failed and bool(self.result.get("ok", True))


def list_parts(plan: Plan) -> Iterator[Part]:
    """In the order of what is asked first; what takes long and says least comes last."""
    yield Part("limits", 15)
    yield Part("kernels", 45)
    for name in (*([DEMO] if plan.proves_demo else []), *plan.proofs):
        yield Part("proof", 20, (name,))
    first, *others = plan.shapes
    for scheme in plan.schemes:
        yield Part("ingot", 45, (first, scheme))
    yield Part("eager", 25, (first,))
    yield Part("torch-compile", 90, (first,))
    for shape in others:
        for scheme in plan.schemes:
            yield Part("ingot", 20, (shape, scheme))
        yield Part("eager", 20, (shape,))
    for shape in others:
        yield Part("torch-compile", 60, (shape,))


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs parts until `end_s` of the monotonic clock."""

    folder: Path
    end_s: float
    log: Path

    def run(self, part: Part) -> Record:
        record = Record(part.way, part.of)
        started = time.monotonic()
        if self.end_s - started < part.about_s:
            record.left_out = f"it takes about {part.about_s:g} s, and no such time was left"
            return record
        if part.way == "ingot":
            self._run_model(part, record)
        else:
            record.result = self._run_process(record, part.way, part.of)
        record.seconds = time.monotonic() - started
        return record

    def _run_model(self, part: Part, record: Record) -> None:
        """Make the weights, start from them, measure, and give the disk back."""
        artifact, cached = artifact_folder(self.folder, part.of), COLD_SCHEME not in part.of
        try:
            fill_weights(artifact)
            if not cached:
                drop_from_cache(artifact)
            start = self._run_process(record, "start", part.of)
            speed = self._run_process(record, "speed", part.of)
            if not speed:
                speed = self._run_process(record, "speed", part.of, {"INGOT_CUDA_GRAPHS": "off"})
            record.result = {**speed, "start": {**start, "cached": cached}}
        except OSError as error:
            record.failed.append(f"its weights can't be written: {error.strerror}")
        finally:
            remove_weights(artifact)

    def _run_process(
        self, record: Record, way: str, of: Sequence[str], variables: Mapping[str, str] = {}
    ) -> dict[str, Any]:
        """What the process found; nothing if it failed, and the record says why."""
        out = self.log.with_suffix(".part.json")
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "ingot.bench.gpu_check", "part", way]
        command += [str(self.folder), str(out), *of, "--started", str(time.monotonic())]
        threads = len(os.sched_getaffinity(0))
        with self.log.open("a") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**timed_environment(threads), **variables},
                start_new_session=True,  # so that its own children end with it
            )
            try:
                status = process.wait(max(1.0, self.end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                record.failed.append(f"{way}: no time was left for it to end")
                return {}
        if status == 0:
            found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
            if "failed" not in found:
                return found
            record.failed.append(f"{way}: {found['failed']}")
            return {}
        record.failed.append(f"{way}: {describe_end(status, self.log)}")
        return {}
