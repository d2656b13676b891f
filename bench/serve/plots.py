"""Draws a load report: throughput and latencies against the load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ingot.bench.serve.report import Level, ServeReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart by colour-blind readers
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PERCENTILES = (("p50", "-"), ("p90", "--"), ("p99", ":"))


def write_plot(report: ServeReport, file: Path) -> None:
    # the object interface: pyplot would look for a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(canvas)
    throughput, ttft, tpot = canvas.subplots(1, 3)
    open_loop = [level for level in report.levels if level.load.rate is not None]
    closed = [level for level in report.levels if level.load.rate is None]
    for levels, name, marker in ((closed, "clients", "o"), (open_loop, "requests/s", "s")):
        if levels:
            loads = [float(level.load.rate or level.load.concurrency or 0) for level in levels]
            style = (marker, f", {name}" if open_loop and closed else "")
            draw_throughput(throughput, loads, levels, *style)
            draw_latency(ttft, loads, levels, "ttft_s", BLUE, *style)
            draw_latency(tpot, loads, levels, "tpot_s", ORANGE, *style)
            for panel in (throughput, ttft, tpot):
                panel.set_xlabel("clients or requests/s" if open_loop and closed else name)
    throughput.set_ylabel("tokens/s (higher is better)")
    ttft.set_ylabel("time to first token, ms")
    tpot.set_ylabel("time a token after it, ms")
    for panel, limit in ((ttft, report.settings.slo.ttft_s), (tpot, report.settings.slo.tpot_s)):
        low, high = panel.get_ylim()
        if low <= limit * 1e3 <= high:
            panel.axhline(limit * 1e3, color="#999999", linewidth=1, label="SLO")
    for panel in (throughput, ttft, tpot):
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.grid(True, color="#dddddd")
        panel.legend(frameon=False, fontsize=8)
    settings = report.settings
    canvas.suptitle(
        f"{settings.model}: prompts {settings.prompt_tokens}, outputs {settings.output_tokens} "
        f"tokens; measured from {report.machine.cpu}",
        fontsize=10,
    )
    canvas.savefig(file, dpi=150)


def draw_throughput(
    panel: Axes, loads: list[float], levels: list[Level], marker: str, kind: str
) -> None:
    output = [level.output_tokens_per_s for level in levels]
    good = [level.output_tokens_per_s * level.good_share for level in levels]
    panel.plot(loads, output, color=GREEN, marker=marker, label=f"output{kind}")
    panel.plot(
        loads, good, color=GREEN, marker=marker, linestyle=":", label=f"within the SLO{kind}"
    )


def draw_latency(
    panel: Axes,
    loads: list[float],
    levels: list[Level],
    figure: str,
    colour: str,
    marker: str,
    kind: str,
) -> None:
    for name, style in PERCENTILES:
        found = [getattr(level, figure) for level in levels]
        values = [getattr(item, name) * 1e3 if item is not None else float("nan") for item in found]
        panel.plot(
            loads, values, color=colour, marker=marker, linestyle=style, label=f"{name}{kind}"
        )
