"""Turns a running server into how long a long prompt holds up the streams beside it.

The engine's promise: between two tokens of a stream lies one step of at most `max_step_tokens`
tokens. The server's traces say how long the prompt's longest step took, what a token of a stream
usually takes, and the longest time between two tokens of each stream. That is to be at most such a
step and a token. What clients see has been on its way besides: they are to see at most such a step
and the longest gap that they saw before the prompt came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median
from typing import Any

import httpx

from ingot.bench.machine import Machine, describe_machine
from ingot.bench.serve.client import Record, ServerAddress, open_client, send
from ingot.bench.serve.lengths import Lengths
from ingot.bench.serve.measure import SEED_STEP, ServeOptions, prepare
from ingot.bench.serve.workload import PlannedRequest, plan_requests
from ingot.errors import IngotError, UsageError

STREAM_PROMPT_TOKENS = 16
SETTLE_PIECES = 24  # that most streams have before the prompt comes
ANSWER_TOKENS = 2
POLL_S = 0.002
VISIBLE_TEXT = "a"
LARGEST_BIAS = 100


@dataclass(frozen=True, slots=True)
class EngineSide:
    """Times of the server's traces, in seconds."""

    alone_step_s: float  # the longest of the prompt's steps, with nothing beside it
    full_step_s: float  # the same among the streams
    token_s: float  # of the streams, the median of their means
    longest_gap_s: float  # between two tokens of any stream while the prompt was read

    @property
    def bound_s(self) -> float:
        return self.full_step_s + self.token_s


@dataclass(frozen=True, slots=True)
class StallRun:
    """One arrival of the prompt. Seconds; gaps are between two pieces of a stream, as its client
    saw them."""

    prompt_tokens: int
    alone_ttft_s: float
    ttft_s: float  # among the streams
    engine: EngineSide
    usual_gap_s: float  # before the prompt came, the median
    longest_usual_gap_s: float
    longest_gap_s: float  # of any stream while the prompt was read

    @property
    def bound_s(self) -> float:
        return self.engine.full_step_s + self.longest_usual_gap_s


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gap that came closest to its bound, or went furthest beyond it."""

    longest_gap_s: float
    bound_s: float
    runs_held: int

    @classmethod
    def of(cls, gaps: list[tuple[float, float]]) -> Verdict:
        """From each run's gap and its bound."""
        gap_s, bound_s = max(gaps, key=lambda pair: pair[0] / pair[1])
        return cls(gap_s, bound_s, sum(gap <= bound for gap, bound in gaps))


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
    engine: Verdict
    clients: Verdict
    schema_version: int = 2


async def measure_stall(
    options: ServeOptions,
    *,
    streams: int,
    prompt_tokens: int,
    repeats: int,
    created: str,
    command: str,
    progress: Callable[[str], None],
) -> StallReport:
    machine = describe_machine()
    address, words_per_token = await prepare(options)
    async with open_client(address) as client:
        step_tokens = await find_step_tokens(client, address)
        token = await find_visible_token(client, address)
        bias = {"logit_bias": {str(token): LARGEST_BIAS}}
        address = replace(address, extra={**(address.extra or {}), **bias})
        runs: list[StallRun] = []
        for number in range(1 + repeats):  # the first warms up

            def plan(tokens: int, offset: int, number: int = number) -> Iterator[PlannedRequest]:
                lengths = Lengths(str(tokens), tokens, tokens)
                workload = replace(options.workload, prompt_tokens=lengths)
                seed = options.seed + (3 * number + offset) * SEED_STEP
                return plan_requests(workload, seed, words_per_token)

            alone = replace(next(plan(prompt_tokens, 0)), max_tokens=ANSWER_TOKENS)
            long = replace(next(plan(prompt_tokens, 1)), max_tokens=ANSWER_TOKENS)
            texts = list(islice(plan(STREAM_PROMPT_TOKENS, 2), streams))
            run = await run_once(client, address, alone, long, texts)
            if number:
                runs.append(run)
                progress(f"{number} of {repeats}: {describe_run(run)}")
    return StallReport(
        created=created,
        command=command,
        machine=machine,
        url=options.url,
        model=address.model,
        streams=streams,
        step_tokens=step_tokens,
        runs=tuple(runs),
        engine=Verdict.of([(run.engine.longest_gap_s, run.engine.bound_s) for run in runs]),
        clients=Verdict.of([(run.longest_gap_s, run.bound_s) for run in runs]),
    )


def describe_run(run: StallRun) -> str:
    engine = run.engine
    return (
        f"engine {engine.longest_gap_s * 1e3:.1f} ms, bound {engine.bound_s * 1e3:.1f}; "
        f"clients {run.longest_gap_s * 1e3:.1f} ms, bound {run.bound_s * 1e3:.1f}"
    )


async def find_step_tokens(client: httpx.AsyncClient, address: ServerAddress) -> int:
    """What the server says of itself."""
    response = await client.get(address.url.rstrip("/") + "/v1/engine")
    if response.status_code != httpx.codes.OK:
        raise UsageError(
            "the server has no /v1/engine and no traces: only Ingot's own tells of its steps"
        )
    return int(response.json()["max_step_tokens"])


async def find_visible_token(client: httpx.AsyncClient, address: ServerAddress) -> int:
    """A token that spells something. The streams write nothing else: a token without text, or with
    half a character, reaches no client, and gaps between pieces would say nothing of tokens."""
    url = address.url.rstrip("/") + "/tokenize"
    response = await client.post(url, json={"prompt": VISIBLE_TEXT, "add_special_tokens": False})
    response.raise_for_status()
    return int(response.json()["tokens"][-1])


async def read_trace(
    client: httpx.AsyncClient, address: ServerAddress, record: Record
) -> dict[str, Any]:
    """What the engine measured of the one output of a request."""
    url = f"{address.url.rstrip('/')}/v1/requests/{record.request_id}"
    response = await client.get(url)
    if response.status_code != httpx.codes.OK:
        raise IngotError(f"the server has no trace of {record.request_id} (any more)")
    trace: dict[str, Any] = response.json()["outputs"][0]
    return trace


async def run_once(
    client: httpx.AsyncClient,
    address: ServerAddress,
    alone: PlannedRequest,
    long: PlannedRequest,
    texts: list[PlannedRequest],
) -> StallRun:
    began = time.perf_counter()

    async def ask(request: PlannedRequest) -> Record:
        now_s = time.perf_counter() - began
        record = await send(client, address, request, due_s=now_s, began=began)
        check_answer(record)
        return record

    before = await ask(alone)
    pieces: list[list[float]] = [[] for _ in texts]
    running = [
        asyncio.create_task(
            send(client, address, text, due_s=0.0, began=began, on_piece=times.append)
        )
        for text, times in zip(texts, pieces, strict=True)
    ]
    try:
        await wait_for(pieces, SETTLE_PIECES, running)
        arrived_s = time.perf_counter() - began
        record = await ask(long)
        records = await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    read_s = record.piece_s[0]
    for stream in records:
        check_answer(stream)
        check_length(stream, read_s)
    usual, during = split_gaps(pieces, arrived_s, read_s)
    traces = [await read_trace(client, address, one) for one in (before, record, *records)]
    assert before.ttft_s is not None and record.ttft_s is not None
    return StallRun(
        prompt_tokens=record.num_prompt_tokens,
        alone_ttft_s=before.ttft_s,
        ttft_s=record.ttft_s,
        engine=EngineSide(
            alone_step_s=traces[0]["longest_step_s"],
            full_step_s=traces[1]["longest_step_s"],
            token_s=median(trace["tpot_s"] for trace in traces[2:]),
            longest_gap_s=max(trace["longest_stall_s"] for trace in traces[2:]),
        ),
        usual_gap_s=median(usual),
        longest_usual_gap_s=max(usual),
        longest_gap_s=max(during),
    )


def check_answer(record: Record) -> None:
    if record.outcome != "done" or not record.piece_s:
        raise IngotError(f"a request was not answered: {record.error or record.outcome}")


def check_length(stream: Record, read_s: float) -> None:
    if stream.piece_s[-1] <= read_s:
        raise IngotError(
            f"a stream ended before the prompt was read, after {stream.num_output_tokens} tokens",
            hint="more --output-tokens, or fewer --prompt-tokens",
        )


async def wait_for(
    pieces: list[list[float]], count: int, running: list[asyncio.Task[Record]]
) -> None:
    """Until most streams have so many pieces."""
    while median(map(len, pieces)) < count:
        for task in running:
            if task.done():
                check_answer(task.result())
                check_length(task.result(), float("inf"))
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
