"""A profile to tables for the terminal: by kernel, then by kind."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingot.bench.profile.report import Profile, Row
from ingot.bench.table import describe_disturbance


def render_profile(profile: Profile) -> RenderableType:
    timings = profile.timings
    title = (
        f"{profile.model} {profile.scheme}, {profile.case.name}: {timings.total_s * 1e3:.3g} ms "
        f"a step on {timings.threads} threads of {profile.machine.cpu}"
    )
    memory = ", that of memory of reads between these steps" if timings.memory_reads else ""
    reading = (
        f"Means over the middle half of {timings.repetitions} pairs of steps. The rows add up to "
        f"{profile.covered:.1%} of the step; the limits are of `ingot bench limits`{memory}. "
        f"Page faults: {timings.page_faults:.1f} a step."
    )
    if timings.huge_pages is not None:
        reading += f" In huge pages: {timings.huge_pages:.0%} of the weights."
    return Group(
        render_rows(title, profile.rows, with_why=True),
        render_rows("By kind", profile.kinds, with_why=False),
        Text(profile.overhead.sentence, style="dim"),
        Text(reading, style="dim"),
        *describe_disturbance(profile.machine),
    )


def render_rows(title: str, rows: Sequence[Row], *, with_why: bool) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("where" if with_why else "kind", overflow="fold")
    for heading in ("calls", "time µs", "step", "MB", "Mop", "limit µs", "reached"):
        table.add_column(heading, justify="right", no_wrap=True)
    if with_why:
        table.add_column("why", overflow="fold", min_width=30)
    for row in rows:
        load = row.load
        cells = [
            f"{row.name} [{row.label}]" if row.label else row.name,
            str(row.calls),
            f"{row.time_s * 1e6:,.1f}",
            f"{row.share:.1%}",
            f"{load.bytes / 1e6:,.2f}" if load else "",
            f"{load.operations / 1e6:,.1f}" if load else "",
            f"{load.limit_s * 1e6:,.1f}" if load else "",
            f"{row.achieved:.0%}" if row.achieved is not None else "",
        ]
        table.add_row(*(Text(cell) for cell in [*cells, row.why][: len(table.columns)]))
    return table
