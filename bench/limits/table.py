"""Limits to a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from ingot.bench.limits.record import Limits, Unit
from ingot.bench.table import describe_disturbance

SCALES: dict[Unit, tuple[float, str]] = {
    "byte/s": (1e9, "GB/s"),
    "op/s": (1e9, "Gop/s"),
    "s": (1e-6, "µs"),
}
NAMES = {
    "region": "waking the threads for one parallel region",
    "kernel call": "one kernel's call in the virtual machine",
}


def render_limits(limits: Limits) -> RenderableType:
    """One row a limit, best and median, and how it was measured."""
    table = Table(
        title=f"What {limits.threads} threads of {limits.machine.cpu} can do", title_justify="left"
    )
    table.add_column("limit", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    table.add_column("median", justify="right", no_wrap=True)
    table.add_column("how")
    for figure in limits.figures:
        scale, unit = SCALES[figure.unit]
        table.add_row(
            NAMES.get(figure.name, figure.name),
            f"{figure.best / scale:,.4g} {unit}",
            f"{figure.median / scale:,.4g}",
            figure.how,
        )
    return Group(table, *describe_disturbance(limits.machine))
