"""`ingot profile`: where the time of a step goes, beside what this machine's limits allow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Artifact, Json, Threads, num_threads, output_file


def profile(
    artifact: Artifact,
    prefill: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="A step that reads a prompt of N tokens.")
    ] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="A step that makes one token. [default]")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Sequences in the step.")] = 1,
    context: Annotated[
        int, typer.Option(min=1, help="Tokens in each sequence, for --decode.")
    ] = 512,
    repeat: Annotated[int, typer.Option(min=1, help="Steps that are timed, at least.")] = 20,
    threads: Threads = None,
    limits: Annotated[
        Path | None, typer.Option(help="Take the limits from this file of `ingot bench limits`.")
    ] = None,
    kept_limits: Annotated[
        bool,
        typer.Option("--kept-limits", help="Take those measured before; don't measure now."),
    ] = False,
    html: Annotated[Path | None, output_file("Write a page with a roofline plot.")] = None,
    as_json: Json = False,
) -> None:
    """Explain the time of a step, kernel by kernel.

    Each kernel's time stands beside the least that its bytes and operations allow on this machine,
    whose limits are measured in the same run: some ten seconds.
    """
    import sys
    from dataclasses import asdict

    from rich.console import Console

    from ingot.bench.limits.obtain import can_measure, obtain_limits
    from ingot.bench.profile import case as cases
    from ingot.bench.profile.measure import check_profilable, measure
    from ingot.bench.profile.report import make_profile, resident_bytes
    from ingot.bench.profile.table import render_profile
    from ingot.cli.output import print_json
    from ingot.errors import UsageError
    from ingot.runtime.artifact import load_artifact

    if prefill and decode:
        raise UsageError("--prefill and --decode are two kinds of step; give one")
    wanted = num_threads(threads)
    case = cases.prefill(prefill, batch) if prefill else cases.decode(context, batch)
    loaded = load_artifact(artifact)
    check_profilable(loaded, case)  # before the limits, which take long
    found = obtain_limits(
        wanted,
        limits,
        kept=kept_limits,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    reader = None
    reads = found.read_bandwidth(resident_bytes(loaded.manifest, case))
    if limits is None and not kept_limits and can_measure() and reads.name == "memory read":
        from ingot.bench.limits.reader import MemoryReader

        reader = MemoryReader(wanted)
    timings = measure(loaded, case, threads=wanted, repetitions=repeat, reader=reader)
    result = make_profile(loaded.manifest, case, timings, found)
    if html is not None:
        from ingot.bench.profile.page import write_page

        write_page(result, html)
    if as_json:
        print_json(asdict(result))
        return
    console = Console(highlight=False)
    console.width = max(console.width, 150)
    console.print(render_profile(result))
