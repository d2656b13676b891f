"""Results to tables for the terminal: how fast each model is, and every bound that was measured."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingot.bench.gpu_check.bounds import PEERS, Bound, Results
from ingot.bench.gpu_check.parts import Record
from ingot.bench.gpu_check.plan import Plan

FORMATS = {"%": "{:.0%}", "x": "{:.2f} x", "us": "{:,.0f} µs", "s": "{:.1f} s"}
VERDICTS = {True: "yes", False: "NO", None: ""}


def render(
    found: Results, bounds: Sequence[Bound], records: Sequence[Record], plan: Plan
) -> RenderableType:
    untold = [record for record in records if record.left_out or record.failed]
    return Group(
        render_decoding(found, plan),
        render_bounds(bounds),
        *(Text(describe(record), style="yellow") for record in untold),
    )


def describe(record: Record) -> str:
    """A line on what became of a part."""
    name = " ".join((record.way, *record.of))
    if record.left_out:
        return f"{name} is left out: {record.left_out}"
    if record.failed:
        return f"{name} failed: {'; '.join(record.failed)}"
    said = [record.result.get("without", ""), *record.result.get("failures", ())]
    return f"{name}: {'; '.join(filter(None, said)) or 'ok'} ({record.seconds:.0f} s)"


def render_decoding(found: Results, plan: Plan) -> Table:
    """Tokens a second at each batch, and for artifacts what is beside them."""
    title = f"Decode from a context of {plan.context_tokens} tokens, tokens/s"
    table = Table(title=title, title_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("way", no_wrap=True)
    headings = [f"batch {batch}" for batch in plan.batches]
    for heading in (*headings, "prefill", "GPU µs", "host µs", "rest of memory"):
        table.add_column(heading, justify="right")
    for shape in plan.shapes:
        for way in (*plan.schemes, *PEERS):
            part = f"{way} {shape}" if way in PEERS else f"ingot {shape} {way}"
            speeds = [found.get(part, "decode", str(batch), "tokens_s") for batch in plan.batches]
            step = "decode", str(min(plan.batches))
            others = [
                found.get(part, "prefill", "tokens_s"),
                found.get(part, *step, "gpu_us"),
                found.get(part, *step, "host_us"),
            ]
            rest = found.get(part, "memory", "rest_bytes")
            cells = ["" if value is None else f"{value:,.0f}" for value in (*speeds, *others)]
            if not any(cells):
                continue
            table.add_row(shape, way, *cells, "" if rest is None else f"{rest / 1e6:,.0f} MB")
        table.add_section()
    return table


def render_bounds(bounds: Sequence[Bound]) -> Table:
    table = Table(title="What is asked and what was reached", title_justify="left")
    table.add_column("what")
    for heading in ("asked", "reached", "met"):
        table.add_column(heading, justify="right", no_wrap=True)
    for bound in bounds:
        if bound.reached is None:
            continue
        shown = FORMATS[bound.unit]
        sign = "≥" if bound.is_floor else "≤"
        asked = "" if bound.limit is None else f"{sign} {shown.format(bound.limit)}"
        table.add_row(bound.what, asked, shown.format(bound.reached), VERDICTS[bound.met])
    missing = sum(bound.reached is None for bound in bounds)
    if missing:
        table.caption = f"{missing} figures more were not measured"
    return table
