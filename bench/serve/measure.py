"""Measures a running server: its address and levels of load become a report."""

from __future__ import annotations

import asyncio
import datetime
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.bench.machine import describe_machine
from ingot.bench.serve.client import Endpoint, ServerAddress, calibrate, find_model
from ingot.bench.serve.load import Load, run_load
from ingot.bench.serve.report import ServeReport, ServeSettings, Slo, summarize, write_report
from ingot.bench.serve.workload import Workload, plan_requests
from ingot.errors import UsageError

Progress = Callable[[str], None]
# Warm-up and levels draw from streams of their own, so that no level meets a cached prompt.
SEED_STEP = 1_000_003


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What is measured; `loads` one after the other."""

    url: str
    workload: Workload
    loads: Sequence[Load]
    slo: Slo
    model: str | None = None
    endpoint: Endpoint = "completions"
    api_key: str | None = None
    extra: Mapping[str, Any] | None = None
    timeout_s: float = 300.0
    num_warm_ups: int = 2
    seed: int = 0
    words_per_token: float | None = None


def measure(
    options: ServeOptions, *, out: Path | None = None, progress: Progress | None = None
) -> ServeReport:
    """Run every load and, with `out` (a .json file), write the report and its plot."""
    if not options.url.startswith(("http://", "https://")):
        raise UsageError(f"{options.url!r} is not an address; it begins with http:// or https://")
    if options.workload.token_ids and options.endpoint == "chat":
        raise UsageError("a chat's messages are text: token ids go to /v1/completions only")
    if out is not None and out.suffix != ".json":
        raise UsageError(f"the report is JSON, and its plot goes beside it: {out} isn't .json")
    report = asyncio.run(run_levels(options, progress or (lambda line: None)))
    if out is not None:
        from ingot.bench.serve.plots import write_plot

        write_report(report, out)
        write_plot(report, out.with_suffix(".png"))
    return report


async def run_levels(options: ServeOptions, progress: Progress) -> ServeReport:
    machine = describe_machine()
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    address, words_per_token = await prepare(options)
    unit = "token ids" if options.workload.token_ids else f"{words_per_token:.2f} words a token"
    progress(f"{address.model} at {options.url}, {unit}")
    if options.num_warm_ups:
        warm_up = Load(options.num_warm_ups, concurrency=options.num_warm_ups)
        requests = plan_requests(options.workload, options.seed + SEED_STEP, words_per_token)
        await run_load(address, warm_up, requests, options.seed)
    levels = []
    for number, load in enumerate(options.loads, start=2):
        seed = options.seed + number * SEED_STEP
        requests = plan_requests(options.workload, seed, words_per_token)
        records = await run_load(address, load, requests, seed)
        if not records:
            raise UsageError(f"{load.name}: no request arrived before the end; run it for longer")
        level = summarize(load, records, options.slo)
        progress(
            f"{load.name}: {level.output_tokens_per_s:,.0f} output tokens/s, "
            f"{level.num_done} answered, {level.num_refused} refused, {level.num_failed} failed"
        )
        levels.append(level)
    settings = ServeSettings(
        url=options.url,
        model=address.model,
        endpoint=options.endpoint,
        prompt_tokens=options.workload.prompt_tokens.text,
        output_tokens=options.workload.output_tokens.text,
        prefix_tokens=options.workload.prefix_tokens,
        prefix_groups=options.workload.prefix_groups,
        cancel_share=options.workload.cancel_share,
        token_ids=options.workload.token_ids,
        slo=options.slo,
        seed=options.seed,
        words_per_token=words_per_token,
        extra=dict(options.extra or {}),
    )
    return ServeReport(
        created, shlex.join(["ingot", *sys.argv[1:]]), settings, machine, tuple(levels)
    )


async def prepare(options: ServeOptions) -> tuple[ServerAddress, float]:
    """The server's model, and how many words make a token of it."""
    model = options.model or await find_model(options.url, options.api_key)
    address = ServerAddress(
        options.url, model, options.endpoint, options.api_key, options.extra, options.timeout_s
    )
    if options.workload.token_ids:
        return address, 1.0
    return address, options.words_per_token or await calibrate(address)
