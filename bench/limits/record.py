"""Measured limits as data, and where they are kept: JSON that other verbs read."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ingot.bench.json_file import write_json
from ingot.bench.machine import Machine
from ingot.errors import IngotError
from ingot.targets import detect_cpu

SCHEMA_VERSION = 1

Unit = Literal["byte/s", "op/s", "s"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One limit. `best` is the highest rate, or the shortest time, of `count` measurements."""

    name: str
    unit: Unit
    best: float
    median: float
    count: int
    how: str
    feature: str = ""  # the instruction set that a peak needs, as /proc/cpuinfo spells it


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one machine with some number of threads."""

    created: str
    machine: Machine
    threads: int
    figures: tuple[Figure, ...]
    l2_bytes: int  # of all threads' cores together
    l3_bytes: int
    schema_version: int = SCHEMA_VERSION

    def figure(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)

    def peak(self, kind: str, features: Collection[str]) -> Figure:
        """The highest peak of `kind` (`float32`, `int8`, `bfloat16`) that code for a target with
        these features can reach."""
        fitting = [
            figure
            for figure in self.figures
            if figure.name.startswith(f"{kind} ") and figure.feature in features
        ]
        if not fitting:
            raise IngotError(
                f"this machine's limits hold no {kind} peak for the artifact's instruction sets",
                hint="measure them on the machine that runs it: `ingot bench limits`",
            )
        return max(fitting, key=lambda figure: figure.best)

    def read_bandwidth(self, num_bytes: float) -> Figure:
        """The bandwidth of reading the same `num_bytes` again and again: that of a cache if they
        fit it, else that of the memory."""
        if num_bytes <= self.l2_bytes / 2:
            return self.figure("l2 read")
        # Beside other data, and other machines on a shared socket: not all of it is ours.
        if num_bytes <= self.l3_bytes / 2:
            return self.figure("l3 read")
        return self.figure("memory read")

    def with_memory_reads(self, bandwidths: Sequence[float]) -> Limits:
        """The same with the memory's bandwidth as it was found at other times, in bytes/s: with
        the median, since what is held against it are no best times either."""
        middle = statistics.median(bandwidths)
        found = replace(
            self.figure("memory read"), best=middle, median=middle, count=len(bandwidths)
        )
        figures = (found if figure.name == found.name else figure for figure in self.figures)
        return replace(self, figures=tuple(figures))


def cache_folder() -> Path:
    """The user's folder for files that can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "ingot"


def stored_path(threads: int) -> Path:
    """The file of this machine's limits: by the CPU's name and the number of threads."""
    slug = re.sub(r"[^a-z0-9]+", "-", detect_cpu().model_name.lower()).strip("-")
    return cache_folder() / f"limits-{slug}-{threads}.json"


def write_limits(limits: Limits, path: Path) -> None:
    write_json(limits, path)


def read_limits(path: Path) -> Limits:
    """The limits in a file; anything else in it is an error."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise IngotError(
                f"{path} has limits of schema {version}; this version reads {SCHEMA_VERSION}",
                hint="measure again: `ingot bench limits`",
            )
        machine: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content.pop("machine").items()
        }
        figures = content.pop("figures")
        return Limits(
            machine=Machine(**machine),
            figures=tuple(Figure(**figure) for figure in figures),
            **content,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IngotError(f"{path} holds no limits: {error}") from error


def stored_limits(threads: int) -> Limits | None:
    """This machine's limits as measured before, or none."""
    path = stored_path(threads)
    return read_limits(path) if path.exists() else None
