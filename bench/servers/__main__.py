"""Loads servers with the same requests, in turns, beside eager one at a time; writes a report.

    python -m ingot.bench.servers ingot=ARTIFACT llama.cpp=FILE.gguf eager=CHECKPOINT \\
        --program llama.cpp=BUILD/bin/llama-server --out bench/results/NAME.json
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ingot import __version__
from ingot.bench.command import run_command
from ingot.bench.json_file import write_json
from ingot.bench.machine import describe_machine
from ingot.bench.serve.lengths import Lengths
from ingot.bench.serve.load import Load
from ingot.bench.serve.measure import ServeOptions, run_levels
from ingot.bench.serve.report import Slo
from ingot.bench.serve.workload import Workload
from ingot.bench.servers.eager import OneAtATime, answer_one_at_a_time
from ingot.bench.servers.start import Slots, running
from ingot.bench.table import describe_disturbance
from ingot.errors import UsageError

NAMES = ("ingot", "llama.cpp", "eager")
NO_SLO = Slo(float("inf"), float("inf"))
EXTRA = {"temperature": 0, "ignore_eos": True}  # outputs of exactly the asked length
SPARE_TOKENS = 16  # of a slot's context, beside prompt and output
PROGRESS = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Shape:
    """The load of every server."""

    clients: int
    num_requests: int
    prompt_tokens: int
    output_tokens: int
    token_ids: int
    threads: int


def load_server(
    name: str, path: str, program: str | None, shape: Shape, seed: int, folder: Path
) -> dict[str, Any]:
    """Start a server, send it all requests from `clients` clients, stop it."""
    context = shape.prompt_tokens + shape.output_tokens + SPARE_TOKENS
    slots = Slots(shape.clients, context, shape.threads)
    loads = (Load(shape.num_requests, concurrency=shape.clients),)
    options = ServeOptions(
        url="",
        workload=Workload(
            Lengths(str(shape.prompt_tokens), shape.prompt_tokens, shape.prompt_tokens),
            Lengths(str(shape.output_tokens), shape.output_tokens, shape.output_tokens),
            token_ids=shape.token_ids,
        ),
        loads=loads,
        slo=NO_SLO,
        extra=EXTRA,
        seed=seed,
    )
    with running(name, path, program, slots, folder / f"{name}.log") as (url, arguments):
        report = asyncio.run(run_levels(replace(options, url=url), PROGRESS.print))
    (level,) = report.levels
    if level.num_done != shape.num_requests:
        raise UsageError(
            f"{name} answered {level.num_done} of {shape.num_requests} requests: {level.errors}"
        )
    return {"server_command": arguments, **asdict(level)}


def summarize(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Medians over the runs of each, and how many times as fast the first one was."""
    rates = {
        name: statistics.median(run["output_tokens_per_s"] for run in some)
        for name, some in runs.items()
    }
    first = next(iter(rates.values()))
    return [
        {"name": name, "output_tokens_per_s": rate, "first_is_times": first / rate}
        for name, rate in rates.items()
    ]


def print_table(shape: Shape, summaries: list[dict[str, Any]], first: str) -> None:
    title = (
        f"{shape.clients} clients, {shape.num_requests} requests of {shape.prompt_tokens} + "
        f"{shape.output_tokens} tokens, {shape.threads} threads; eager: one at a time"
    )
    table = Table("", "output tokens/s", f"{first} is so many times as fast", title=title)
    for row in summaries:
        table.add_row(
            row["name"], f"{row['output_tokens_per_s']:.1f}", f"{row['first_is_times']:.2f}"
        )
    Console().print(table)


def parse_pairs(pairs: list[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping, for names that exist."""
    for text in pairs:
        if text.partition("=")[0] not in NAMES or "=" not in text:
            raise UsageError(f"{text!r} is not NAME=PATH; names are {', '.join(NAMES)}")
    return dict(pair.split("=", 1) for pair in pairs)


def main(
    servers: Annotated[list[str], typer.Argument(help="NAME=PATH of its form of the model.")],
    program: Annotated[list[str], typer.Option(help="NAME=PROGRAM that serves it.")] = [],  # noqa: B006
    clients: Annotated[int, typer.Option(help="Clients, and a server's slots.")] = 32,
    requests: Annotated[int, typer.Option(help="Of all clients together.")] = 64,
    eager_requests: Annotated[int, typer.Option(help="That eager answers, one at a time.")] = 3,
    prompt_tokens: Annotated[int, typer.Option(help="Of each prompt.")] = 128,
    output_tokens: Annotated[int, typer.Option(help="Of each answer.")] = 128,
    token_ids: Annotated[int, typer.Option(help="Prompts are ids below it.")] = 1024,
    dtype: Annotated[str, typer.Option(help="Of eager's weights.")] = "bfloat16",
    rounds: Annotated[int, typer.Option(help="Each runs all of them forth and back.")] = 1,
    threads: Annotated[int, typer.Option()] = len(os.sched_getaffinity(0)),
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the report goes, as JSON.")] = None,
) -> None:
    paths, programs = parse_pairs(servers), parse_pairs(program)
    machine = describe_machine()
    shape = Shape(clients, requests, prompt_tokens, output_tokens, token_ids, threads)
    alone = OneAtATime(eager_requests, prompt_tokens, output_tokens, token_ids, threads, dtype)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in paths}
    with tempfile.TemporaryDirectory() as folder:
        for turn, name in enumerate([*paths, *reversed(paths)] * rounds):
            PROGRESS.print(f"{name}: {len(runs[name]) + 1} of {2 * rounds}")
            if name == "eager":
                run: dict[str, Any] = dict(
                    answer_one_at_a_time(Path(paths[name]), alone, seed + turn, Path(folder))
                )
            else:
                run = load_server(
                    name, paths[name], programs.get(name), shape, seed + turn, Path(folder)
                )
            runs[name].append(run)
    summaries = summarize(runs)
    print_table(shape, summaries, next(iter(paths)))
    for line in describe_disturbance(machine):
        Console().print(line)
    if out is not None:
        report = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["python -m ingot.bench.servers", *sys.argv[1:]]),
            "ingot": __version__,
            "machine": asdict(machine),
            "shape": asdict(shape),
            "eager": asdict(alone),
            "runs": runs,
            "summaries": summaries,
        }
        write_json(report, out)


if __name__ == "__main__":
    run_command(main)
