"""`ingot bench speculation`: with and without guesses, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Artifact, Draft, Json, Threads, output_file

if TYPE_CHECKING:
    from rich.table import Table

    from ingot.bench.speculation import Ratio, SpeculationReport


def speculation(
    artifact: Artifact,
    draft: Draft = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Batch size. Repeatable. [default: 1 and 8]"),
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens to generate.")] = 128,
    repeat: Annotated[int, typer.Option(min=1, help="Timed turns.")] = 40,
    threads: Threads = None,
    out: Annotated[Path | None, output_file("Write the figures to this .json too.")] = None,
    as_json: Json = False,
) -> None:
    """Measure what speculation brings.

    By prompt lookup, and by a draft artifact if one is given, greedy, on Python code that is to be
    edited (the answer repeats the prompt) and to be written. Every turn runs the prompts without,
    without again and with guesses. The speed-up is the median over turns, between its bounds by
    95%; the control is without against without again, which is what the machine alone does.
    """
    import sys
    from dataclasses import asdict

    from ingot.bench.json_file import write_json
    from ingot.bench.speculation import measure_speculation
    from ingot.cli.output import print_json, print_rendered
    from ingot.environment import read_variable

    report = measure_speculation(
        artifact,
        draft,
        batches=tuple(batch or (1, 8)),
        new_tokens=new_tokens,
        turns=repeat,
        threads=threads or read_variable("INGOT_NUM_THREADS"),
        report_progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if out is not None:
        write_json(report, out)
    if as_json:
        print_json(asdict(report))
        return
    print_rendered(render(report))


def render(report: SpeculationReport) -> Table:
    from rich import box
    from rich.table import Table

    same = all(case.same_text for case in report.cases)
    table = Table(
        title=f"{report.artifact} on {report.machine.cpu}, medians of {report.turns} turns",
        caption=f"texts with and without guesses: {'the same' if same else 'NOT the same'}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        collapse_padding=True,
    )
    table.add_column("task, batch, guesses")
    for heading in ("tokens/s", "speed-up", "control", "accepted"):
        table.add_column(heading, justify="right")
    table.add_column("5% slower")
    for case in report.cases:
        table.add_row(
            f"{case.task} {case.batch} {case.speculation}",
            f"{case.tokens_per_s:,.0f}",
            describe(case.speedup),
            describe(case.control),
            "" if case.acceptance is None else f"{case.acceptance:.0%}",
            {"not slower": "no", "slower": "yes", "not told": "not told"}[case.verdict],
        )
    return table


def describe(ratio: Ratio) -> str:
    """The median and its bounds."""
    return f"{ratio.median:.2f} [{ratio.interval[0]:.2f} {ratio.interval[1]:.2f}]"
