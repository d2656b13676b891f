"""`ingot bench serve` and `ingot bench soak`: a running server under load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Json, output_file

Url = Annotated[
    str, typer.Argument(metavar="URL", help="Address of the server, as http://127.0.0.1:8000.")
]
Model = Annotated[
    str | None, typer.Option(help="Name of the model. [default: the first that the server lists]")
]
ApiKey = Annotated[
    str | None, typer.Option(help="Key that the server asks for. [default: INGOT_API_KEY]")
]
LENGTHS = "N, fixed:N, uniform:LOW:HIGH or lognormal:MEDIAN:SIGMA[:MAX]."
PromptTokens = Annotated[str, typer.Option(metavar="LENGTHS", help=f"Of each prompt: {LENGTHS}")]
OutputTokens = Annotated[str, typer.Option(metavar="LENGTHS", help=f"Of each answer: {LENGTHS}")]
Chat = Annotated[
    bool, typer.Option("--chat", help="Ask /v1/chat/completions, not /v1/completions.")
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        help="Ask the server to go on to the full length; not all servers know `ignore_eos`."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed sends the same requests.")]
DEFAULT_CONCURRENCY = (1, 2, 4, 8, 16, 32)
MIN_REQUESTS = 16  # of a level, when neither a number nor a duration is given
REQUESTS_PER_CLIENT = 4
DEFAULT_DURATION_S = 20.0


def serve(
    url: Url,
    concurrency: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Clients that wait for each answer. Repeatable."),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(metavar="R", help="Random arrivals, R a second on average. Repeatable."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests of a level. [default: 4 a client or 20 s]")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0.1, metavar="S", help="No request begins after S seconds.")
    ] = None,
    prompt_tokens: PromptTokens = "128",
    output_tokens: OutputTokens = "64",
    prefix_tokens: Annotated[
        int, typer.Option(min=0, help="So many tokens of each prompt are shared with others.")
    ] = 0,
    prefix_groups: Annotated[int, typer.Option(min=1, help="How many such prefixes.")] = 1,
    token_ids: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Prompts of random token ids below N, of exact lengths. [default: words]",
            show_default=False,
        ),
    ] = 0,
    cancel: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Give up this share midway.")
    ] = 0.0,
    slo_ttft_ms: Annotated[float, typer.Option(min=0, help="A good first token.")] = 1000.0,
    slo_tpot_ms: Annotated[float, typer.Option(min=0, help="A good time a token.")] = 100.0,
    model: Model = None,
    chat: Chat = False,
    ignore_eos: IgnoreEos = True,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    api_key: ApiKey = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte.")] = 300.0,
    warm_up: Annotated[int, typer.Option(min=0, help="Requests before the measured ones.")] = 2,
    seed: Seed = 0,
    out: Annotated[
        Path | None, output_file("Write the report to this .json file, a plot beside it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a running server under load.

    Latencies, throughput and goodput, at each level of load: a number of clients (--concurrency) or
    a rate of arrivals (--rate). Works with any server that streams OpenAI's completions.
    """
    import sys
    from dataclasses import asdict

    from ingot.bench.serve.lengths import parse_lengths
    from ingot.bench.serve.load import Load
    from ingot.bench.serve.measure import ServeOptions, measure
    from ingot.bench.serve.report import Slo
    from ingot.bench.serve.table import render_report
    from ingot.bench.serve.workload import Workload
    from ingot.cli.output import print_json, print_rendered
    from ingot.environment import read_variable
    from ingot.errors import UsageError

    if any(one <= 0 for one in rate or ()):
        raise UsageError("--rate is above 0")
    clients = concurrency or (() if rate else DEFAULT_CONCURRENCY)
    loads = [
        Load(
            requests or (sys.maxsize if duration else max(MIN_REQUESTS, REQUESTS_PER_CLIENT * one)),
            concurrency=one,
            max_duration_s=duration,
        )
        for one in clients
    ]
    span = duration or (None if requests else DEFAULT_DURATION_S)
    loads += [Load(requests or sys.maxsize, rate=one, max_duration_s=span) for one in rate or ()]
    report = measure(
        ServeOptions(
            url=url,
            workload=Workload(
                parse_lengths(prompt_tokens),
                parse_lengths(output_tokens),
                prefix_tokens,
                prefix_groups,
                cancel,
                token_ids,
            ),
            loads=loads,
            slo=Slo(slo_ttft_ms / 1e3, slo_tpot_ms / 1e3),
            model=model,
            endpoint="chat" if chat else "completions",
            api_key=api_key or read_variable("INGOT_API_KEY"),
            extra={"temperature": temperature} | ({"ignore_eos": True} if ignore_eos else {}),
            timeout_s=timeout,
            num_warm_ups=warm_up,
            seed=seed,
        ),
        out=out,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if as_json:
        print_json(asdict(report))
    else:
        print_rendered(render_report(report), least_width=170)


def soak(
    url: Url,
    duration: Annotated[float, typer.Option(min=1, metavar="S", help="Seconds.")] = 60.0,
    load: Annotated[
        float, typer.Option(min=0.1, help="Times the rate that the server sustains.")
    ] = 4.0,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Requests a second, instead of --load.")
    ] = None,
    prompt_tokens: PromptTokens = "lognormal:100:0.8:600",
    output_tokens: OutputTokens = "lognormal:40:0.8:200",
    model: Model = None,
    api_key: ApiKey = None,
    pid: Annotated[
        int | None,
        typer.Option(help="The server's process. [default: the one that listens at URL]"),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte.")] = 300.0,
    seed: Seed = 0,
    out: Annotated[
        Path | None, output_file("Write the report to this .json file, a plot beside it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Load a server far beyond what it can do.

    Its clients stay, give up midway, hang up at once, or send nonsense. Exit status 1 if an
    accepted request went unanswered, or if memory or pages were not given back.
    """
    import sys
    from dataclasses import asdict

    from ingot.bench.serve.lengths import parse_lengths
    from ingot.bench.serve.soak import SoakOptions
    from ingot.bench.serve.soak import soak as run
    from ingot.bench.serve.soak_report import render_soak, write_soak
    from ingot.bench.serve.workload import Workload
    from ingot.cli.output import print_json, print_rendered
    from ingot.environment import read_variable

    report = run(
        SoakOptions(
            url=url,
            workload=Workload(parse_lengths(prompt_tokens), parse_lengths(output_tokens)),
            duration_s=duration,
            load_factor=load,
            rate=rate,
            model=model,
            api_key=api_key or read_variable("INGOT_API_KEY"),
            pid=pid,
            seed=seed,
            timeout_s=timeout,
        ),
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if out is not None:
        write_soak(report, out)
    if as_json:
        print_json(asdict(report))
    else:
        print_rendered(render_soak(report))
    raise typer.Exit(1 if report.problems else 0)
