"""`/proc/cpuinfo` to what this machine's CPU has, and what it lacks for a target."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from ingot.targets.target import Target, TargetError

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Cpu:
    """One machine's CPU. `features` are spelled as the kernel spells them."""

    model_name: str
    architecture: str  # "x86_64", "aarch64"
    features: frozenset[str]
    num_cores: int

    def missing(self, target: Target) -> tuple[str, ...]:
        """What `target` needs and this CPU lacks; empty if it runs the target's code."""
        if target.architecture != self.architecture:
            return (target.architecture,)
        return tuple(feature for feature in target.features if feature not in self.features)


def parse_cpuinfo(text: str, architecture: str, num_cores: int) -> Cpu:
    """Read the first processor's record: the cores of one machine have the same features."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            values.setdefault(key.strip().lower(), value.strip())
    features = values.get("flags", values.get("features"))  # x86, Arm
    if features is None:
        raise TargetError(
            f"the list of CPU features is missing from {CPUINFO}",
            "name the target, such as --target cpu:x86-64-v3; `ingot targets` lists them",
        )
    name = values.get("model name", "unknown")
    return Cpu(name, architecture, frozenset(features.split()), num_cores)


def detect_cpu(cpuinfo: str | None = None, architecture: str | None = None) -> Cpu:
    """Describe the CPU of this machine. The arguments stand in for it in tests."""
    if cpuinfo is None:
        try:
            cpuinfo = CPUINFO.read_text("utf-8", errors="replace")
        except OSError as error:
            raise TargetError(
                f"{CPUINFO} can't be read: {error.strerror}; Ingot knows CPUs by it (Linux)",
                "name the target, such as --target cpu:x86-64-v3; `ingot targets` lists them",
            ) from error
    num_cores = len(os.sched_getaffinity(0))
    return parse_cpuinfo(cpuinfo, architecture or platform.machine(), num_cores)
