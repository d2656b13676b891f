"""`ingot bench`: measurements; `compare` sets the compiled model beside eager and others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ingot.cli import bench_latency, bench_serve, limits, speculation
from ingot.cli.options import Json, TrustRemoteCode, output_file

app = typer.Typer(
    help="Measure this machine, models and servers.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def bench() -> None:
    """Measure this machine, models and servers."""


@app.command()
def compare(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub id, folder of a checkpoint, or `demo`.")
    ],
    artifact: Annotated[
        Path | None, typer.Option(help="Measure this artifact instead of compiling one.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this backend. Repeatable. [default: all]"),
    ] = None,
    quant: Annotated[
        str | None, typer.Option(help="Scheme of the compiled backend. [default: f32]")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="What the others run in. [default: float32]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. [default: cpu]")] = None,
    target: Annotated[
        str | None, typer.Option(help="Target of the compiled backend. [default: the device's]")
    ] = None,
    prompt_tokens: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Prompt length. Repeatable. [default: 16 and 128]"),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Batch size. Repeatable. [default: 1 and 4]"),
    ] = None,
    new_tokens: Annotated[
        int | None, typer.Option(min=2, help="Tokens to generate. [default: 32]")
    ] = None,
    repeat: Annotated[
        int | None, typer.Option(min=1, help="Timed generations a turn. [default: 3]")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of every backend. [default: INGOT_NUM_THREADS or one a physical core]",
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    out: Annotated[
        Path | None, output_file("Write the report to this .json file, plots beside it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare MODEL compiled with other ways to run it.

    Speed, load time, memory and text, beside eager, torch.compile and onnxruntime. Each backend
    runs in a process of its own.
    """
    import sys
    from dataclasses import asdict

    from ingot.bench.compare import compare as measure
    from ingot.bench.table import render_report
    from ingot.cli.output import print_json, print_rendered
    from ingot.environment import read_variable

    given: dict[str, Any] = {
        "backends": backend,
        "quant": quant,
        "dtype": dtype,
        "device": device,
        "prompt_lengths": prompt_tokens,
        "batch_sizes": batch,
        "new_tokens": new_tokens,
        "repetitions": repeat,
        "threads": threads or read_variable("INGOT_NUM_THREADS"),
    }
    report = measure(
        model,
        artifact=artifact,
        target=target,
        out=out,
        trust_remote_code=trust_remote_code,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
        **{name: value for name, value in given.items() if value},
    )
    if as_json:
        print_json(asdict(report))
    else:
        print_rendered(render_report(report), least_width=120)


app.command("limits")(limits.limits)
app.command("speculation")(speculation.speculation)
app.command("serve")(bench_serve.serve)
app.command("soak")(bench_serve.soak)
app.command("stall")(bench_latency.stall)
app.command("prefix")(bench_latency.prefix)
