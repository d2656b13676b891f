"""`ingot run`: an artifact and a prompt to text, as it is generated."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Artifact, Draft, Json, Speculate, Threads
from ingot.cli.sampling import takes_sampling

if TYPE_CHECKING:
    from ingot.runtime import SamplingParams


@takes_sampling
def run(
    artifact: Artifact,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="Text to continue; - reads it from stdin.")
    ],
    *,
    params: SamplingParams,
    speculate: Speculate = False,
    draft: Draft = None,
    threads: Threads = None,
    eager: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Run this model uncompiled instead, to compare texts."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Continue PROMPT with an artifact.

    Text goes to stdout as it comes, timings to stderr.
    """
    from dataclasses import asdict

    from ingot.cli.open_engine import open_engine
    from ingot.cli.output import print_json
    from ingot.errors import UsageError
    from ingot.runtime import SamplingParams

    text = sys.stdin.read() if prompt == "-" else prompt
    if eager:
        if params != SamplingParams(max_tokens=params.max_tokens):
            raise UsageError("--eager takes the likeliest token; --max-tokens is its only option")
        from ingot.cli.logs import hush_libraries
        from ingot.eager import complete_eagerly
        from ingot.models.resolve import resolve_model

        hush_libraries()
        continuation = complete_eagerly(artifact, resolve_model(eager), text, params.max_tokens)
        if as_json:
            print_json({"text": continuation})
        else:
            print(f"{text}{continuation}")
        return
    with open_engine(artifact, speculate=speculate, draft=draft, threads=threads) as engine:
        if as_json:
            print_json(asdict(engine.generate(text, params)[0]))
            return
        print(text, end="", flush=True)
        last = None
        for last in engine.stream(text, params):
            print(last.text, end="", flush=True)
        print(flush=True)  # before the figures
    assert last is not None and last.stats is not None
    stats = last.stats
    print(
        f"{stats.num_output_tokens} tokens in {stats.total_s:.2f} s, the first after "
        f"{stats.ttft_s:.3f} s, then one every {stats.tpot_s * 1e3:.1f} ms",
        file=sys.stderr,
    )
