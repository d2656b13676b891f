"""Targets: what each kind of hardware has, as data."""

from ingot.targets.cpu import Cpu, detect_cpu
from ingot.targets.resolve import best_cpu_target, resolve_target
from ingot.targets.target import Target, TargetError, load_targets

__all__ = [
    "Cpu",
    "Target",
    "TargetError",
    "best_cpu_target",
    "detect_cpu",
    "load_targets",
    "resolve_target",
]
