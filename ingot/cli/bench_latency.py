"""`ingot bench stall` and `ingot bench prefix`: two promises of a running server, measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingot.cli.bench_serve import ApiKey, Model, Seed, Url
from ingot.cli.options import Json, output_file

if TYPE_CHECKING:
    from ingot.bench.serve.measure import ServeOptions
    from ingot.bench.serve.prefix import PrefixReport
    from ingot.bench.serve.stall import StallReport

Repeat = Annotated[int, typer.Option(min=1, help="Times, after one that warms up.")]
TokenIds = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Prompts of random token ids below N, of exact lengths. [default: words]",
        show_default=False,
    ),
]
Out = Annotated[Path | None, output_file("Write the report to this .json file.")]


def stall(
    url: Url,
    streams: Annotated[int, typer.Option(min=1, help="That run when the prompt comes.")] = 8,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of the long prompt.")] = 2000,
    output_tokens: Annotated[
        int, typer.Option(min=1, help="Of each stream: they must outlast the prompt.")
    ] = 256,
    repeat: Repeat = 5,
    token_ids: TokenIds = 0,
    model: Model = None,
    api_key: ApiKey = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure how long a prompt holds up running streams.

    The longest time between two tokens of any stream, by the server's traces, and between two
    pieces, as clients see it, each beside its bound.
    """
    import asyncio

    from ingot.bench.serve.stall import measure_stall

    options = make_options(url, output_tokens, token_ids, model, api_key, seed)
    report = asyncio.run(
        measure_stall(
            options,
            streams=streams,
            prompt_tokens=prompt_tokens,
            repeats=repeat,
            **run_facts(),
        )
    )
    give(asdict(report), describe_stall(report), out, as_json=as_json)


def prefix(
    url: Url,
    prefix_tokens: Annotated[int, typer.Option(min=1, help="That two requests share.")] = 1000,
    own_tokens: Annotated[int, typer.Option(min=1, help="Of each request after it.")] = 16,
    repeat: Repeat = 5,
    token_ids: TokenIds = 0,
    model: Model = None,
    api_key: ApiKey = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure what the prefix cache saves.

    The second of two requests that begin alike needs only the rest of its prompt computed.
    """
    import asyncio

    from ingot.bench.serve.prefix import measure_prefix

    report = asyncio.run(
        measure_prefix(
            make_options(url, 1, token_ids, model, api_key, seed),
            prefix_tokens=prefix_tokens,
            own_tokens=own_tokens,
            repeats=repeat,
            **run_facts(),
        )
    )
    give(asdict(report), describe_prefix(report), out, as_json=as_json)


def make_options(
    url: str, output_tokens: int, token_ids: int, model: str | None, api_key: str | None, seed: int
) -> ServeOptions:
    from ingot.bench.serve.lengths import Lengths
    from ingot.bench.serve.measure import ServeOptions
    from ingot.bench.serve.report import Slo
    from ingot.bench.serve.workload import Workload
    from ingot.environment import read_variable

    return ServeOptions(
        url=url,
        workload=Workload(
            Lengths("1", 1, 1),
            Lengths(str(output_tokens), output_tokens, output_tokens),
            token_ids=token_ids,
        ),
        loads=(),
        slo=Slo(float("inf"), float("inf")),
        model=model,
        api_key=api_key or read_variable("INGOT_API_KEY"),
        extra={"temperature": 0, "ignore_eos": True},
        seed=seed,
    )


def run_facts() -> dict[str, Any]:
    """When and how this ran, and where its progress goes."""
    import datetime
    import shlex
    import sys

    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["ingot", *sys.argv[1:]]),
        "progress": lambda line: print(line, file=sys.stderr, flush=True),
    }


def describe_stall(report: StallReport) -> str:
    step = f"a step of at most {report.step_tokens} tokens"
    sides = (
        ("engine", "tokens", f"{step} and a token", report.engine),
        ("clients", "pieces", f"{step} and the longest gap before the prompt", report.clients),
    )
    return "\n".join(
        [
            f"{report.model}: a prompt of {report.runs[0].prompt_tokens} tokens among "
            f"{report.streams} streams",
            *(
                f"{who}: at most {verdict.longest_gap_s * 1e3:.1f} ms between two {things}; bound "
                f"{verdict.bound_s * 1e3:.1f} ms, {bound}; held in {verdict.runs_held} of "
                f"{len(report.runs)} runs"
                for who, things, bound, verdict in sides
            ),
        ]
    )


def describe_prefix(report: PrefixReport) -> str:
    return (
        f"{report.model}: with {report.prefix_tokens} tokens shared and {report.own_tokens} of "
        f"its own, a second request's first token takes {report.share:.1%} of the time "
        f"of the first's (median of {len(report.runs)})"
    )


def give(report: dict[str, Any], sentence: str, out: Path | None, *, as_json: bool) -> None:
    from ingot.bench.json_file import write_json
    from ingot.cli.output import print_json

    if out is not None:
        write_json(report, out)
    if as_json:
        print_json(report)
    else:
        print(sentence)
