"""A soak as data, and as text for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingot.bench.json_file import write_json
from ingot.bench.machine import Machine
from ingot.bench.serve.watch import Sample
from ingot.bench.table import describe_disturbance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Read = Callable[[Sample], float | None]
MIN_SENT_SHARE = 0.9  # of the planned requests
COLUMNS = ("done", "cancelled", "refused", "told why", "failed")


@dataclass(frozen=True, slots=True)
class SoakReport:
    """`problems` is empty when the server held."""

    created: str
    command: str
    url: str
    model: str
    machine: Machine
    duration_s: float
    rate: float
    sent_rate: float  # below `rate` where the client could not keep up
    outcomes: dict[str, dict[str, int]]  # of each kind of client
    output_tokens_per_s: float
    memory_growth_bytes: tuple[int, int] | None
    idle: Sample
    samples: tuple[Sample, ...]
    problems: tuple[str, ...]
    schema_version: int = 1


def write_soak(report: SoakReport, path: Path) -> None:
    write_json(report, path)
    draw_soak(report, path.with_suffix(".png"))


def render_soak(report: SoakReport) -> RenderableType:
    title = f"{report.model} at {report.url}, {report.rate:.1f} requests/s"
    table = Table(title=f"{title} for {report.duration_s:g} s", title_justify="left")
    table.add_column("clients that")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for action, counts in report.outcomes.items():
        table.add_row(action, *(str(counts.get(column, 0)) for column in COLUMNS))
    lines = [f"{report.output_tokens_per_s:,.0f} output tokens/s"]
    if report.sent_rate < MIN_SENT_SHARE * report.rate:
        lines.append(f"the client was too slow itself: it sent {report.sent_rate:.1f} requests/s")
    lines.extend(str(line) for line in describe_disturbance(report.machine))
    if report.memory_growth_bytes is None:
        lines.append("memory: not watched, or not for long enough")
    else:
        settled, end = (value / 1e6 for value in report.memory_growth_bytes)
        lines.append(f"memory: {settled:,.0f} MB settled, {end:,.0f} MB at the end")
    if report.idle.num_pages is None:
        lines.append("pages: not watched, the server has no /v1/engine")
    else:
        lines.append(
            f"pages at the end: {report.idle.num_free_pages} free, {report.idle.num_cached_pages} "
            f"cached, {report.idle.num_held_pages} held of {report.idle.num_pages}"
        )
    verdict = [Text(f"problem: {problem}", style="red") for problem in report.problems]
    return Group(
        table,
        *[Text(line, style="dim") for line in lines],
        *(verdict or [Text("nothing broke, leaked or went unanswered", style="green")]),
    )


def draw_soak(report: SoakReport, file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(canvas)
    memory, pages, requests = canvas.subplots(3, 1, sharex=True)
    draw_lines(memory, report, {"memory, MB": lambda s: scale(s.memory_bytes, 1e-6)})
    draw_lines(
        pages,
        report,
        {"held pages": lambda s: s.num_held_pages, "cached pages": lambda s: s.num_cached_pages},
    )
    draw_lines(
        requests, report, {"running": lambda s: s.num_running, "waiting": lambda s: s.num_waiting}
    )
    requests.set_xlabel("seconds")
    canvas.suptitle(f"{report.model}: {report.rate:.1f} requests/s", fontsize=10)
    canvas.savefig(file, dpi=120)


def scale(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def draw_lines(panel: Axes, report: SoakReport, lines: dict[str, Read]) -> None:
    times = [sample.time_s for sample in report.samples]
    for label, read in lines.items():
        values = [read(sample) for sample in report.samples]
        panel.plot(
            times, [float("nan") if value is None else value for value in values], label=label
        )
    panel.set_ylim(bottom=0)
    panel.spines[["top", "right"]].set_visible(False)
    panel.yaxis.grid(True, color="#dddddd")
    panel.legend(frameon=False, fontsize=8, loc="lower right")
