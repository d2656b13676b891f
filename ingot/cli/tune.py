"""`ingot tune`: measures the kernels' sizes that are otherwise guessed from the target's data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Json, Threads, num_threads, output_folder


def tune(
    target: Annotated[
        str, typer.Option(help="A target that this machine runs; cuda is that of its GPU.")
    ] = "cpu",
    model: Annotated[
        str | None,
        typer.Option(help="For a GPU: whose kernels to time. [default: a Llama of 8 billion]"),
    ] = None,
    quant: Annotated[
        str | None, typer.Option(help="For a GPU: its scheme. [default: the target's]")
    ] = None,
    threads: Threads = None,
    repeat: Annotated[int, typer.Option(min=1, help="Timed calls of each candidate.")] = 30,
    out: Annotated[
        Path | None, output_folder("Folder to write to instead of the user's own.")
    ] = None,
    cuda_compiler: Annotated[str, typer.Option(help="nvrtc or nvcc.")] = "nvrtc",
    as_json: Json = False,
) -> None:
    """Search the kernels' sizes on this machine.

    On its CPU, or on its GPU with `--target cuda`. Every compile that follows uses what is found.
    Each size has a few candidates around the guess, timed in turns on kernels that it decides on.
    They change how fast kernels are, not what they mean.
    """
    import sys
    from dataclasses import asdict

    from ingot.bench.tune.machine import find_target, make_bench
    from ingot.bench.tune.search import tune as search
    from ingot.cli.output import print_json, print_table
    from ingot.targets.tuned import write_tuning

    found = find_target(target)
    bench = make_bench(
        found,
        threads=num_threads(threads),
        model=model,
        quant=quant,
        cuda_compiler=cuda_compiler,
    )
    tuning, searched = search(
        found,
        bench,
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
