"""Targets: what each kind of hardware has, as data."""

from ingot.targets.target import Target, TargetError, load_targets

__all__ = ["Target", "TargetError", "load_targets"]
