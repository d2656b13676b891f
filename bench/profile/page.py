"""A profile to one self-contained HTML page, with its roofline plot."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ingot.bench.limits.record import Figure
from ingot.bench.limits.table import SCALES
from ingot.bench.profile.report import Profile
from ingot.bench.profile.roofline import bars, draw_roofline, kind_class
from ingot.bench.table import describe_disturbance

COLOURS = {
    "matmul": "matmul",
    "paged_attention": "attention",
    "norm": "norm",
    "rope": "rope",
    "kv_write": "write",
    "activation": "activation",
    "embedding": "embedding",
    "core": "core",
    "overhead": "overhead",
    "rest": "rest",
}
"""Kind -> the page's colour; other kinds take that of `rest`."""


def render_page(profile: Profile) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(
        files("ingot.bench.profile").joinpath("page.html.j2").read_text("utf-8")
    )
    from markupsafe import Markup

    kinds = {row.kind for row in profile.rows} | {"rest"}
    return template.render(
        profile=profile,
        figures=headline(profile),
        bar=bars(profile.rows, 0.002, lambda row: f"{row.name}, {row.share:.1%}"),
        roofline=Markup(draw_roofline(profile)),  # made here, its text escaped
        colours={kind_class(kind): COLOURS.get(kind, "rest") for kind in sorted(kinds)},
        kind_class=kind_class,
        busy=" ".join(text.plain for text in describe_disturbance(profile.machine)),
        scaled=scaled,
    )


def write_page(profile: Profile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(profile), encoding="utf-8")


def headline(profile: Profile) -> list[tuple[str, str]]:
    """The figures on top: value and what it is."""
    timings, case = profile.timings, profile.case
    loads = [row.load for row in profile.rows if row.load]
    limit_s = sum(load.limit_s for load in loads)
    num_bytes = sum(load.bytes for load in loads)
    overhead_s = sum(row.time_s for row in profile.rows if row.kind == "overhead")
    return [
        (f"{timings.total_s * 1e3:.3g} ms", "a step"),
        (f"{case.batch * case.tokens / timings.total_s:,.0f}", "tokens/s"),
        (f"{limit_s / timings.total_s:.0%}", f"of the machine's limit, {limit_s * 1e3:.3g} ms"),
        (f"{num_bytes / timings.total_s / 1e9:.3g} GB/s", f"for {num_bytes / 1e6:,.0f} MB a step"),
        (f"{overhead_s / timings.total_s:.1%}", "is no kernel"),
    ]


def scaled(figure: Figure, value: float) -> str:
    scale, unit = SCALES[figure.unit]
    return f"{value / scale:,.4g} {unit}"
