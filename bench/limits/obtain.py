"""The limits that a profile or a forecast is set beside: given, kept, or measured now."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ingot.bench.limits.record import (
    Limits,
    read_limits,
    stored_limits,
    stored_path,
    write_limits,
)
from ingot.errors import IngotError

# The micro-kernels are built with the compiler's vocabulary, which stands on these.
NEEDED = ("tvm", "torch", "psutil")


def obtain_limits(
    threads: int,
    path: Path | None = None,
    *,
    kept: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Limits:
    """The limits in `path`, else measured now and kept. With `kept`, or where they can't be
    measured, those that were kept before.

    Shared machines drift: their bandwidth at another hour says little about a time of now.
    """
    if path is not None:
        return read_limits(path)
    stored = stored_limits(threads)
    if stored is not None and (kept or not can_measure()):
        return stored
    if not can_measure():
        raise IngotError(
            f"there are no limits of this machine with {threads} threads, and measuring them "
            "needs what compiling needs",
            hint="pip install 'ingot[compile,bench]', or give a file with --limits",
        )
    from ingot.bench.limits.measure import measure_limits

    measured = measure_limits(threads, progress)
    write_limits(measured, stored_path(threads))
    return measured


def can_measure() -> bool:
    return all(find_spec(name) is not None for name in NEEDED)
