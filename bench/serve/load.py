"""Turns a load (arrivals of requests) into the records of all of them.

Open loop: requests arrive at random (Poisson), whether or not earlier ones are answered; that is
how users behave, and it shows what waiting does. Closed loop: so many clients, each sending its
next request when the last one is answered; that is how throughput against concurrency is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingot.bench.serve.client import Record, ServerAddress, open_client, send
from ingot.bench.serve.workload import PlannedRequest

# sends a request that was due at a time, and keeps its record
Ask = Callable[[PlannedRequest, float], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Load:
    """One level of load: either `rate` requests a second, or `concurrency` clients."""

    num_requests: int
    rate: float | None = None
    concurrency: int | None = None
    max_duration_s: float | None = None  # no request begins after it

    @property
    def name(self) -> str:
        if self.rate is not None:
            return f"{self.rate:g} requests/s"
        return f"{self.concurrency} client{'s' if self.concurrency != 1 else ''}"


async def run_load(
    address: ServerAddress,
    load: Load,
    requests: Iterator[PlannedRequest],
    seed: int,
    on_record: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    records: list[Record] = []

    def keep(record: Record) -> None:
        records.append(record)
        on_record(record)

    async with open_client(address) as client:
        began = time.perf_counter()

        async def ask(request: PlannedRequest, due_s: float) -> None:
            keep(await send(client, address, request, due_s=due_s, began=began))

        if load.rate is not None:
            await run_open(load, requests, np.random.default_rng(seed), began, ask)
        else:
            await run_closed(load, requests, began, ask)
    return records


async def run_open(
    load: Load,
    requests: Iterator[PlannedRequest],
    rng: np.random.Generator,
    began: float,
    ask: Ask,
) -> None:
    assert load.rate is not None
    due_s = 0.0
    async with asyncio.TaskGroup() as tasks:
        for _ in range(load.num_requests):
            due_s += rng.exponential(1 / load.rate)
            if load.max_duration_s is not None and due_s > load.max_duration_s:
                break
            await asyncio.sleep(max(0.0, due_s - (time.perf_counter() - began)))
            tasks.create_task(ask(next(requests), due_s))


async def run_closed(
    load: Load,
    requests: Iterator[PlannedRequest],
    began: float,
    ask: Ask,
) -> None:
    assert load.concurrency is not None
    left = load.num_requests

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            now_s = time.perf_counter() - began
            if load.max_duration_s is not None and now_s > load.max_duration_s:
                return
            await ask(next(requests), now_s)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(load.concurrency, load.num_requests)):
            tasks.create_task(work())
