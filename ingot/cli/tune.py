"""`ingot tune`: measures the sizes that the CPU kernels otherwise guess from the target's data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Json, Threads, num_threads, output_folder


def tune(
    target: Annotated[str, typer.Option(help="A CPU target that this machine runs.")] = "cpu",
    threads: Threads = None,
    repeat: Annotated[int, typer.Option(min=1, help="Timed calls of each candidate.")] = 30,
    out: Annotated[
        Path | None, output_folder("Folder to write to instead of the user's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search the kernels' sizes on this machine.

    Every compile that follows uses what is found. Each size has a few candidates around the guess,
    timed in turns on a kernel that it decides on. They change how fast kernels are, not what they
    compute.
    """
    import sys
    from dataclasses import asdict

    from ingot.bench.tune.search import tune as search
    from ingot.cli.output import print_json, print_table
    from ingot.errors import UsageError
    from ingot.targets import detect_cpu, resolve_target
    from ingot.targets.tuned import write_tuning

    found = resolve_target(target)
    if found.kind != "cpu":
        raise UsageError(f"{found.name} is no CPU; sizes of GPU kernels are not tuned")
    lacking = detect_cpu().missing(found)
    if lacking:
        raise UsageError(f"this machine can't run {found.name}: it lacks {', '.join(lacking)}")
    wanted = num_threads(threads)
    tuning, searched = search(
        found,
        wanted,
        repetitions=repeat,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    path = write_tuning(tuning, out)
    if as_json:
        print_json({"path": str(path), **asdict(tuning), "searched": [asdict(s) for s in searched]})
        return
    rows = [
        (
            one.name,
            one.guess,
            one.chosen,
            f"{one.gain:.1%}",
            ", ".join(f"{c.size}: {c.best_s * 1e6:,.0f} µs" for c in one.candidates),
        )
        for one in searched
    ]
    print_table(("size", "guess", "chosen", "saves", "candidates"), rows)
    print(f"written to {path}", file=sys.stderr)
