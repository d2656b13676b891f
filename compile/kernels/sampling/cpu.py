"""The two kernels of sampling on the CPU: `build_sample` and `build_penalize`."""

from __future__ import annotations

from ingot.compile.kernels.sampling.penalize import build as build_penalize
from ingot.compile.kernels.sampling.sample import build as build_sample

__all__ = ["build_penalize", "build_sample"]
