"""Prints a load report: one row a level."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingot.bench.serve.report import Level, Percentiles, ServeReport
from ingot.bench.table import describe_disturbance

LATE_S = 0.05  # above it, the client's own delay is no longer small beside what it measures


def render_report(report: ServeReport) -> RenderableType:
    settings, slo = report.settings, report.settings.slo
    table = Table(title=f"{settings.model} at {settings.url}", title_justify="left")
    table.add_column("load", no_wrap=True)
    for heading in (
        "done",
        "refused",
        "failed",
        "output\ntokens/s",
        "requests/s",
        "within\nSLO",
        "goodput\nrequests/s",
        "TTFT ms\np50 / p90 / p99",
        "TPOT ms\np50 / p90 / p99",
        "ITL ms\np50 / p90 / p99",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for level in report.levels:
        table.add_row(*level_cells(level))
    reading = (
        f"prompts {settings.prompt_tokens}, outputs {settings.output_tokens} tokens"
        + (f", {settings.prefix_tokens} of them shared" if settings.prefix_tokens else "")
        + (f", {settings.cancel_share:.0%} cancelled" if settings.cancel_share else "")
        + f"; SLO: TTFT {slo.ttft_s * 1e3:g} ms, TPOT {slo.tpot_s * 1e3:g} ms"
    )
    return Group(
        table,
        Text(reading, style="dim"),
        *[Text(line, style="yellow") for line in warnings(report)],
        *describe_disturbance(report.machine),
    )


def level_cells(level: Level) -> list[str]:
    return [
        level.load.name,
        str(level.num_done),
        str(level.num_refused),
        str(level.num_failed),
        f"{level.output_tokens_per_s:,.0f}",
        f"{level.requests_per_s:,.2f}",
        f"{level.good_share:.0%}",
        f"{level.goodput:,.2f}",
        milliseconds(level.ttft_s),
        milliseconds(level.tpot_s),
        milliseconds(level.itl_s),
    ]


def milliseconds(values: Percentiles | None) -> str:
    if values is None:
        return ""
    return " / ".join(
        f"{value * 1e3:,.{1 if value < 0.1 else 0}f}"
        for value in (values.p50, values.p90, values.p99)
    )


def warnings(report: ServeReport) -> list[str]:
    lines = []
    for level in report.levels:
        for error, count in level.errors:
            lines.append(f"{level.load.name}: {count} times {error}")
        late = level.lateness_s
        if late is not None and late.p99 > LATE_S:
            lines.append(
                f"{level.load.name}: the client sent up to {late.p99:.2f} s late (p99), so it was "
                "itself too slow for this load"
            )
    return lines
