"""`python -m ingot.bench.gpu_check prepare|run FOLDER`: what `make gpu-check` calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ingot.errors import IngotError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Check kernels, numbers and speed on a GPU.",
)


@app.command()
def prepare(
    folder: Path,
    target: Annotated[str, typer.Option(help="cuda:sm_80,sm_90, ...")] = "cuda",
    compiler: Annotated[str, typer.Option(help="nvrtc or nvcc.")] = "nvrtc",
) -> None:
    """Write to FOLDER all that a machine with a GPU needs. Needs no GPU."""
    from ingot.bench.gpu_check.prepare import prepare as write
    from ingot.runtime.artifact.machine import resolve_target_here

    write(folder, resolve_target_here(target), compiler=compiler, report=typer.echo)


@app.command()
def run(
    folder: Path,
    out: Annotated[Path, typer.Option(help="The results, as JSON.")] = Path("gpu-check.json"),
    shapes: Annotated[list[str] | None, typer.Option(help="Only these models' speed.")] = None,
    parts: Annotated[
        list[str] | None, typer.Option(help="Only these parts, such as kernels or ingot.")
    ] = None,
    limit_s: Annotated[float, typer.Option(help="What doesn't end in it is left out.")] = 580.0,
) -> None:
    """Run what `prepare` wrote on this machine's GPU; exits with 1 if anything is wrong."""
    from ingot.bench.gpu_check.run import run_check

    if not run_check(folder, out, shapes or (), parts or (), limit_s):
        raise typer.Exit(1)


@app.command(hidden=True)
def part(
    way: str,
    folder: Path,
    out: Path,
    of: Annotated[list[str] | None, typer.Argument()] = None,
    started: Annotated[float, typer.Option()] = 0.0,
) -> None:
    """One part of a run, in this process; a refusal is its result."""
    from ingot.bench.gpu_check.ways import run_way

    try:
        result = run_way(way, folder, of or [], started)
    except IngotError as error:
        result = {"failed": error.message}
    out.write_text(json.dumps(result) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command; what is wrong for a user to know is one sentence."""
    try:
        app()
    except IngotError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
