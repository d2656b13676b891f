"""`ingot bench speculation`: with and without guesses, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Artifact, Draft, Json, Threads, output_file

if TYPE_CHECKING:
    from rich.table import Table

    from ingot.bench.speculation import SpeculationReport


def speculation(
    artifact: Artifact,
    draft: Draft = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Batch size. Repeatable. [default: 1 and 8]"),
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens to generate.")] = 128,
    repeat: Annotated[int, typer.Option(min=1, help="Timed turns.")] = 9,
    threads: Threads = None,
    out: Annotated[Path | None, output_file("Write the figures to this .json too.")] = None,
    as_json: Json = False,
) -> None:
    """Measure what speculation brings.

    By prompt lookup, and by a draft artifact if one is given, greedy, on Python code that is to be
    edited (the answer repeats the prompt) and to be written. The row `none again` is the plain way
    once more, in an engine of its own: how far it is from 1 is what the machine alone does.
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
    from rich.table import Table

    table = Table(title=f"{report.artifact} on {report.machine.cpu}", title_justify="left")
    for heading in ("task", "batch", "speculation"):
        table.add_column(heading)
    for heading in ("tokens/s", "speed-up", "accepted", "tokens a step", "same text"):
        table.add_column(heading, justify="right")
    for way in report.ways:
        table.add_row(
            way.task,
            str(way.batch),
            way.speculation,
            f"{way.tokens_per_s:,.0f}",
            f"{way.speedup:.2f}",
            "" if way.acceptance is None else f"{way.acceptance:.0%}",
            f"{way.tokens_per_step:.2f}",
            "yes" if way.same_text else "no",
        )
    return table
