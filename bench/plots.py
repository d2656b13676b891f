"""Draws a report: tokens/s in decode and in prefill, over prompt lengths, by batch size."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingot.bench.prompts import Case
from ingot.bench.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart by colour-blind readers; a hatch each for print
STYLES = {
    "compiled": ("#D55E00", ""),
    "eager": ("#999999", ""),
    "torch-compile": ("#56B4E9", "//"),
    "onnxruntime": ("#009E73", ".."),
}
OTHER_STYLES = (("#CC79A7", "xx"), ("#F0E442", "\\\\"), ("#0072B2", "--"))
FIGURES = {
    "decode": ("decode_tokens_per_s", "Decode"),
    "prefill": ("prefill_tokens_per_s", "Prefill"),
}


def write_plots(report: Report, path: Path) -> tuple[Path, ...]:
    """Write PATH-decode.png and PATH-prefill.png beside the report; nothing if nothing ran."""
    if not any(backend.status == "measured" for backend in report.backends):
        return ()
    files = []
    for suffix, (figure, title) in FIGURES.items():
        file = path.with_name(f"{path.stem}-{suffix}.png")
        draw(report, figure, title, file)
        files.append(file)
    return tuple(files)


def draw(report: Report, figure: str, title: str, file: Path) -> None:
    # the object interface: pyplot would look for a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = report.settings
    num_panels = len(settings.batch_sizes)
    canvas = Figure(figsize=(2.2 + 3.6 * num_panels, 4.4), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(1, num_panels, squeeze=False)[0]
    for panel, batch_size in zip(panels, settings.batch_sizes, strict=True):
        draw_panel(panel, report, figure, batch_size)
    panels[0].set_ylabel("tokens/s (higher is better)")
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    device = ", ".join(report.machine.gpus) if settings.device != "cpu" else report.machine.cpu
    canvas.suptitle(
        f"{title}: {settings.model}, compiled {settings.quant}, others {settings.dtype}\n"
        f"{device}, {settings.threads} threads; median and quartiles",
        fontsize=10,
    )
    canvas.savefig(file, dpi=150)


def draw_panel(panel: "Axes", report: Report, figure: str, batch_size: int) -> None:
    lengths = report.settings.prompt_lengths
    measured = [backend for backend in report.backends if backend.status == "measured"]
    width = 0.8 / len(measured)
    others = iter(OTHER_STYLES * len(measured))
    for index, backend in enumerate(measured):
        colour, hatch = STYLES.get(backend.name) or next(others)
        found = [backend.find(Case(length, batch_size)) for length in lengths]
        spreads = [getattr(case, figure) for case in found if case is not None]
        medians = [spread.median for spread in spreads]
        errors = [
            [spread.median - spread.q1 for spread in spreads],
            [spread.q3 - spread.median for spread in spreads],
        ]
        left = -0.4 + (index + 0.5) * width
        bars: Any = panel.bar(
            [position + left for position in range(len(lengths))],
            medians,
            width * 0.92,
            yerr=errors,
            label=backend.name,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"},
        )
        panel.bar_label(
            bars, [f"{median:,.0f}" for median in medians], fontsize=7, padding=4, rotation=90
        )
    panel.set_title(f"batch {batch_size}", fontsize=10)
    panel.set_xticks(range(len(lengths)), [str(length) for length in lengths])
    panel.set_xlabel("prompt tokens")
    panel.margins(y=0.2)
    panel.spines[["top", "right"]].set_visible(False)
    panel.yaxis.grid(True, color="#dddddd")
    panel.set_axisbelow(True)
