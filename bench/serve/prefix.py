"""Turns a running server into what its prefix cache saves: the first request of a long beginning,
and a second one that shares it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median

from ingot.bench.machine import Machine, describe_machine
from ingot.bench.serve.client import open_client, send
from ingot.bench.serve.lengths import Lengths
from ingot.bench.serve.measure import SEED_STEP, ServeOptions, prepare
from ingot.bench.serve.workload import plan_requests
from ingot.errors import IngotError

ANSWER_TOKENS = 4


@dataclass(frozen=True, slots=True)
class PrefixRun:
    prompt_tokens: int
    first_ttft_s: float
    second_ttft_s: float


@dataclass(frozen=True, slots=True)
class PrefixReport:
    created: str
    command: str
    machine: Machine
    url: str
    model: str
    prefix_tokens: int
    own_tokens: int
    runs: tuple[PrefixRun, ...]
    share: float  # of the first's time to its first token that the second takes; the median


async def measure_prefix(
    options: ServeOptions,
    *,
    prefix_tokens: int,
    own_tokens: int,
    repeats: int,
    created: str,
    command: str,
    progress: Callable[[str], None],
) -> PrefixReport:
    machine = describe_machine()
    address, words_per_token = await prepare(options)
    total = prefix_tokens + own_tokens
    workload = replace(
        options.workload,
        prompt_tokens=Lengths(str(total), total, total),
        prefix_tokens=prefix_tokens,
    )
    runs: list[PrefixRun] = []
    async with open_client(address) as client:
        for number in range(1 + repeats):  # the first warms up
            plan = plan_requests(workload, options.seed + number * SEED_STEP, words_per_token)
            records = []
            for request in islice(plan, 2):
                short = replace(request, max_tokens=ANSWER_TOKENS)
                began = time.perf_counter()
                records.append(await send(client, address, short, due_s=0.0, began=began))
            first, second = records
            if first.ttft_s is None or second.ttft_s is None:
                raise IngotError(f"a request was not answered: {first.error or second.error}")
            if number:
                runs.append(PrefixRun(first.num_prompt_tokens, first.ttft_s, second.ttft_s))
                progress(
                    f"{number} of {repeats}: {first.ttft_s * 1e3:.1f} ms, then "
                    f"{second.ttft_s * 1e3:.1f} ms"
                )
    return PrefixReport(
        created=created,
        command=command,
        machine=machine,
        url=options.url,
        model=address.model,
        prefix_tokens=prefix_tokens,
        own_tokens=own_tokens,
        runs=tuple(runs),
        share=median(run.second_ttft_s / run.first_ttft_s for run in runs),
    )
