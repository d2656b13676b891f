"""Turns minutes of unreasonable load into a verdict: did anything break, leak or go unanswered?

First the rate that the server sustains is measured, then requests arrive at several times that:
ordinary ones, ones given up midway, clients that hang up at once, and bodies that make no sense.
"""

from __future__ import annotations

import asyncio
import datetime
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import httpx
import numpy as np

from ingot.bench.machine import describe_machine
from ingot.bench.serve.bad_bodies import make_bad_bodies
from ingot.bench.serve.client import REFUSALS, ServerAddress, open_client, send
from ingot.bench.serve.load import Load, run_load
from ingot.bench.serve.measure import SEED_STEP, ServeOptions, prepare
from ingot.bench.serve.report import Slo
from ingot.bench.serve.soak_report import SoakReport
from ingot.bench.serve.watch import (
    Sample,
    find_leaks,
    find_server_process,
    memory_growth,
    take_sample,
    wait_until_idle,
)
from ingot.bench.serve.workload import PlannedRequest, Workload, plan_requests

Progress = Callable[[str], None]
# What an arrival does, and how often.
ACTIONS = {"answer": 0.70, "give up": 0.12, "hang up": 0.08, "bad request": 0.10}
MAX_PATIENCE_S = 0.05  # of a client that hangs up
BAD_REQUEST_TIMEOUT_S = 60.0  # behind a queue of others on a busy machine
IDLE_LIMIT_S = 120.0
MIN_SAMPLE_PERIOD_S = 1.0
MAX_SAMPLES = 300
SUSTAIN_CLIENTS = 16
SUSTAIN_SHARE = 0.1  # of the duration, to find out what the server sustains
SUSTAIN_LIMITS_S = (2.0, 15.0)
NO_SLO = Slo(float("inf"), float("inf"))


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """`load_factor` times the sustained rate, or `rate` requests a second."""

    url: str
    workload: Workload
    duration_s: float
    load_factor: float = 4.0
    rate: float | None = None
    model: str | None = None
    api_key: str | None = None
    pid: int | None = None
    seed: int = 0
    timeout_s: float = 300.0


def soak(options: SoakOptions, progress: Progress = lambda line: None) -> SoakReport:
    return asyncio.run(run_soak(options, progress))


async def run_soak(options: SoakOptions, progress: Progress) -> SoakReport:
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = describe_machine()
    address, words_per_token = await prepare(
        ServeOptions(
            options.url,
            options.workload,
            loads=(),
            slo=NO_SLO,
            model=options.model,
            api_key=options.api_key,
            timeout_s=options.timeout_s,
        )
    )
    pid = options.pid or find_server_process(options.url)
    if pid is None:
        progress("the server's process isn't found on this machine: its memory isn't watched")
    workload = replace(options.workload, cancel_share=0.0)
    rate = options.rate
    if rate is None:
        requests = plan_requests(workload, options.seed + SEED_STEP, words_per_token)
        rate = options.load_factor * await measure_sustained(address, requests, options)
    progress(
        f"{address.model} at {options.url}: {rate:.1f} requests/s for {options.duration_s:g} s"
    )
    crowd = Crowd(address, options.seed)
    requests = plan_requests(workload, options.seed, words_per_token)
    samples: list[Sample] = []
    async with open_client(address) as watcher:
        began = time.perf_counter()
        period_s = max(MIN_SAMPLE_PERIOD_S, options.duration_s / MAX_SAMPLES)
        watching = asyncio.create_task(
            keep_watching(watcher, address, pid, began, period_s, samples)
        )
        try:
            await crowd.run(rate, options.duration_s, requests, began, progress)
        finally:
            watching.cancel()
            await asyncio.wait((watching,))
        if not watching.cancelled():
            watching.result()  # raises what ended it early
        idle = await wait_until_idle(watcher, address, pid, began, IDLE_LIMIT_S)
        problems = [*crowd.problems(), *find_leaks(samples, idle)]
        probe = await send(
            watcher, address, PlannedRequest("still there", 4), due_s=0.0, began=began
        )
        if probe.outcome != "done":
            problems.append(f"a request after the load is not answered: {probe.error}")
    return SoakReport(
        created=created,
        command=shlex.join(["ingot", *sys.argv[1:]]),
        url=options.url,
        model=address.model,
        machine=machine,
        duration_s=options.duration_s,
        rate=rate,
        sent_rate=crowd.num_sent / options.duration_s,
        outcomes={
            action: dict(crowd.outcomes[action]) for action in ACTIONS if crowd.outcomes[action]
        },
        output_tokens_per_s=crowd.num_output_tokens / options.duration_s,
        memory_growth_bytes=memory_growth(samples),
        idle=idle,
        samples=tuple(samples),
        problems=tuple(problems),
    )


async def measure_sustained(
    address: ServerAddress, requests: Iterator[PlannedRequest], options: SoakOptions
) -> float:
    """Answers a second with as many clients as keep it busy."""
    low, high = SUSTAIN_LIMITS_S
    span = min(max(options.duration_s * SUSTAIN_SHARE, low), high)
    load = Load(sys.maxsize, concurrency=SUSTAIN_CLIENTS, max_duration_s=span)
    records = await run_load(address, load, requests, options.seed)
    done = [record for record in records if record.outcome == "done"]
    return max(1, len(done)) / max(record.end_s for record in records)


async def keep_watching(
    client: httpx.AsyncClient,
    address: ServerAddress,
    pid: int | None,
    began: float,
    period_s: float,
    samples: list[Sample],
) -> None:
    while True:
        samples.append(await take_sample(client, address, pid, began))
        await asyncio.sleep(period_s)


class Crowd:
    """All clients of a soak. Each arrival does one of ACTIONS and its outcome is counted."""

    def __init__(self, address: ServerAddress, seed: int) -> None:
        self.address = address
        self.outcomes: dict[str, Counter[str]] = {action: Counter() for action in ACTIONS}
        self.num_output_tokens = 0
        self.num_sent = 0
        self._errors: Counter[str] = Counter()
        self._rng = np.random.default_rng(seed)
        self._bad_bodies = make_bad_bodies(address.model)

    async def run(
        self,
        rate: float,
        duration_s: float,
        requests: Iterator[PlannedRequest],
        began: float,
        progress: Progress,
    ) -> None:
        due_s = 0.0
        told_s = 0.0
        async with open_client(self.address) as client, asyncio.TaskGroup() as tasks:
            while True:
                due_s += self._rng.exponential(1 / rate)
                now_s = time.perf_counter() - began
                # By the clock as well: a client that falls behind sends less, not for longer.
                if max(due_s, now_s) > duration_s:
                    break
                await asyncio.sleep(max(0.0, due_s - now_s))
                self.num_sent += 1
                action = str(self._rng.choice(list(ACTIONS), p=list(ACTIONS.values())))
                tasks.create_task(self._act(client, action, next(requests), due_s, began))
                if now_s - told_s > duration_s / 10:
                    told_s = now_s
                    progress(f"{now_s:.0f} s: {self.describe()}")
                    for problem in self.problems():
                        progress(f"    problem: {problem}")

    def describe(self) -> str:
        total = sum((counts for counts in self.outcomes.values()), Counter[str]())
        return ", ".join(f"{count} {outcome}" for outcome, count in total.most_common())

    def problems(self) -> list[str]:
        return [f"{count} times {error}" for error, count in self._errors.most_common()]

    async def _act(
        self,
        client: httpx.AsyncClient,
        action: str,
        request: PlannedRequest,
        due_s: float,
        began: float,
    ) -> None:
        if action == "bad request":
            outcome = await self._send_bad(client)
        elif action == "hang up":
            outcome = await self._hang_up(client, request, due_s, began)
        else:
            outcome = await self._ask(client, action, request, due_s, began)
        self.outcomes[action][outcome] += 1

    async def _ask(
        self,
        client: httpx.AsyncClient,
        action: str,
        request: PlannedRequest,
        due_s: float,
        began: float,
    ) -> str:
        if action == "give up":
            after = int(self._rng.integers(1, request.max_tokens + 1))
            request = replace(request, cancel_after=after)
        record = await send(client, self.address, request, due_s=due_s, began=began)
        self.num_output_tokens += record.num_output_tokens
        if record.outcome == "failed":
            self._errors[f"an accepted request ended with {record.error}"] += 1
        return record.outcome

    async def _hang_up(
        self, client: httpx.AsyncClient, request: PlannedRequest, due_s: float, began: float
    ) -> str:
        patience_s = self._rng.uniform(0, MAX_PATIENCE_S)
        try:
            async with asyncio.timeout(patience_s):
                record = await send(client, self.address, request, due_s=due_s, began=began)
        except TimeoutError:
            return "cancelled"
        return record.outcome if record.outcome != "failed" else "cancelled"

    async def _send_bad(self, client: httpx.AsyncClient) -> str:
        what, body = self._bad_bodies[int(self._rng.integers(len(self._bad_bodies)))]
        headers = {"Content-Type": "application/json"}
        try:
            response = await client.post(
                self.address.path, content=body, headers=headers, timeout=BAD_REQUEST_TIMEOUT_S
            )
        except httpx.HTTPError as error:
            self._errors[f"a bad request ({what}) met {type(error).__name__}"] += 1
            return "failed"
        if response.status_code in REFUSALS:
            return "refused"
        if 400 <= response.status_code < 500:
            return "told why"
        self._errors[f"a bad request ({what}) was answered {response.status_code}"] += 1
        return "failed"
