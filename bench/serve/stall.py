"""Turns a running server into how long a long prompt holds up the streams beside it.

The promise of our engine: between two tokens of a stream lies at most one step of
`max_step_tokens` tokens. How long such a step takes is measured on the idle server: a prompt's
time to its first token less that of one shorter by a step is its last step, the longest, because
it attends to all before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median

import httpx

from ingot.bench.machine import Machine, describe_machine
from ingot.bench.serve.client import Record, ServerAddress, open_client, send
from ingot.bench.serve.lengths import Lengths
from ingot.bench.serve.measure import SEED_STEP, ServeOptions, prepare
from ingot.bench.serve.workload import PlannedRequest, plan_requests
from ingot.errors import IngotError, UsageError

STREAM_PROMPT_TOKENS = 16
SETTLE_TOKENS = 16  # of each stream before the prompt comes, and again after it
ANSWER_TOKENS = 2
POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class StallRun:
    """One arrival of the prompt. Seconds."""

    prompt_tokens: int
    alone_ttft_s: float
    ttft_s: float  # among the streams
    last_step_s: float  # of the prompt alone
    usual_gap_s: float  # between two pieces of a stream before the prompt came, the median
    largest_gap_s: float  # of any stream while it was read

    @property
    def bound_s(self) -> float:
        """One full step, and a token of each stream."""
        return self.last_step_s + self.usual_gap_s


@dataclass(frozen=True, slots=True)
class StallReport:
    created: str
    command: str
    machine: Machine
    url: str
    model: str
    streams: int
    step_tokens: int
    runs: tuple[StallRun, ...]
    bound_s: float  # medians of the runs
    largest_gap_s: float


async def measure_stall(
    options: ServeOptions,
    *,
    streams: int,
    prompt_tokens: int,
    step_tokens: int | None,
    repeats: int,
    created: str,
    command: str,
    progress: Callable[[str], None],
) -> StallReport:
    machine = describe_machine()
    address, words_per_token = await prepare(options)
    step = step_tokens or await find_step_tokens(address)
    runs: list[StallRun] = []
    for number in range(1 + repeats):  # the first warms up

        def plan(tokens: int, offset: int, number: int = number) -> Iterator[PlannedRequest]:
            lengths = Lengths(str(tokens), tokens, tokens)
            workload = replace(options.workload, prompt_tokens=lengths)
            seed = options.seed + (4 * number + offset) * SEED_STEP
            return plan_requests(workload, seed, words_per_token)

        long = replace(next(plan(prompt_tokens, 0)), max_tokens=ANSWER_TOKENS)
        again = replace(next(plan(prompt_tokens, 1)), max_tokens=ANSWER_TOKENS)
        shorter = max(1, prompt_tokens - step)
        short = replace(next(plan(shorter, 2)), max_tokens=ANSWER_TOKENS)
        texts = list(islice(plan(STREAM_PROMPT_TOKENS, 3), streams))
        run = await run_once(address, long, again, short, texts, has_steps=prompt_tokens > step)
        if number:
            runs.append(run)
            progress(
                f"{number} of {repeats}: largest gap {run.largest_gap_s * 1e3:.1f} ms, "
                f"a full step {run.bound_s * 1e3:.1f} ms"
            )
    return StallReport(
        created=created,
        command=command,
        machine=machine,
        url=options.url,
        model=address.model,
        streams=streams,
        step_tokens=step,
        runs=tuple(runs),
        bound_s=median(run.bound_s for run in runs),
        largest_gap_s=median(run.largest_gap_s for run in runs),
    )


async def find_step_tokens(address: ServerAddress) -> int:
    """What the server says of itself."""
    async with open_client(address) as client:
        response = await client.get(address.url.rstrip("/") + "/v1/engine")
    if response.status_code != httpx.codes.OK:
        raise UsageError("the server has no /v1/engine; say --step-tokens, its largest step")
    return int(response.json()["max_step_tokens"])


async def run_once(
    address: ServerAddress,
    long: PlannedRequest,
    again: PlannedRequest,
    short: PlannedRequest,
    texts: list[PlannedRequest],
    *,
    has_steps: bool,
) -> StallRun:
    async with open_client(address) as client:
        began = time.perf_counter()

        async def ask(request: PlannedRequest) -> Record:
            now_s = time.perf_counter() - began
            record = await send(client, address, request, due_s=now_s, began=began)
            if record.outcome != "done" or record.ttft_s is None:
                raise IngotError(f"a request was not answered: {record.error or record.outcome}")
            return record

        alone = await ask(again)
        before = (await ask(short)).ttft_s if has_steps else 0.0
        pieces: list[list[float]] = [[] for _ in texts]
        running = [
            asyncio.create_task(
                send(client, address, text, due_s=0.0, began=began, on_piece=times.append)
            )
            for text, times in zip(texts, pieces, strict=True)
        ]
        try:
            await wait_for(pieces, SETTLE_TOKENS, running)
            arrived_s = time.perf_counter() - began
            record = await ask(long)
            counts = max(map(len, pieces))
            await wait_for(pieces, counts + SETTLE_TOKENS, running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    assert alone.ttft_s is not None and record.ttft_s is not None and before is not None
    usual, during = split_gaps(pieces, arrived_s, record.piece_s[0])
    return StallRun(
        prompt_tokens=record.num_prompt_tokens,
        alone_ttft_s=alone.ttft_s,
        ttft_s=record.ttft_s,
        last_step_s=max(0.0, alone.ttft_s - before),
        usual_gap_s=median(usual),
        largest_gap_s=max(during),
    )


async def wait_for(
    pieces: list[list[float]], count: int, running: list[asyncio.Task[Record]]
) -> None:
    """Until each stream has so many pieces."""
    while min(map(len, pieces)) < count:
        for task in running:
            if task.done():
                why = task.result().error or "it had too few tokens"
                raise IngotError(
                    f"a stream ended before the prompt was read: {why}",
                    hint="more --output-tokens, or fewer --prompt-tokens",
                )
        await asyncio.sleep(POLL_S)


def split_gaps(
    pieces: list[list[float]], arrived_s: float, read_s: float
) -> tuple[list[float], list[float]]:
    """Gaps that were over before the prompt came, and those that it may have widened."""
    usual, during = [], []
    for times in pieces:
        for start, end in zip(times, times[1:], strict=False):
            if end <= arrived_s:
                usual.append(end - start)
            elif start <= read_s:
                during.append(end - start)
    return usual, during
