"""`ingot bench limits`: what this machine can do, measured and kept for the other verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ingot.cli.options import Json, Threads, num_threads, output_file


def limits(
    threads: Threads = None,
    out: Annotated[Path | None, output_file("Write the figures to this .json too.")] = None,
    as_json: Json = False,
) -> None:
    """Measure what this machine can do.

    Its bandwidths, the peaks of every instruction set that it has, and its overheads. This takes
    some ten seconds and is kept: `ingot profile` and `ingot inspect` set times beside it.
    """
    import sys
    from dataclasses import asdict

    from rich.console import Console

    from ingot.bench.limits.measure import measure_limits
    from ingot.bench.limits.record import stored_path, write_limits
    from ingot.bench.limits.table import render_limits
    from ingot.cli.output import print_json

    wanted = num_threads(threads)
    measured = measure_limits(wanted, lambda line: print(line, file=sys.stderr, flush=True))
    path = stored_path(wanted)
    for place in (path, *([out] if out else [])):
        write_limits(measured, place)
    if as_json:
        print_json(asdict(measured))
        return
    console = Console(highlight=False)
    console.width = max(console.width, 110)
    console.print(render_limits(measured))
    print(f"kept in {path}", file=sys.stderr)
