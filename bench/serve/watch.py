"""Turns a running server into samples of its memory and its pages, and says whether they leak."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from ingot.bench.serve.client import ServerAddress

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
SETTLED_SHARE = 1 / 3  # of the run, at least
END_SHARE = 0.1
GROWTH_RATIO = 0.05
GROWTH_BYTES = 16 << 20
MIN_SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the server; None where it doesn't tell."""

    time_s: float
    memory_bytes: int | None
    num_running: int | None = None
    num_waiting: int | None = None
    num_pages: int | None = None
    num_free_pages: int | None = None
    num_held_pages: int | None = None  # by running requests
    num_cached_pages: int | None = None


def find_server_process(url: str) -> int | None:
    """The process of this machine that listens at `url`; None if it is elsewhere or hidden."""
    import psutil

    parts = urlsplit(url)
    if parts.hostname not in LOCAL_NAMES:
        return None
    for process in psutil.process_iter():
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue  # another user's, or gone by now
        for connection in connections:
            is_listening = connection.status == psutil.CONN_LISTEN
            if is_listening and connection.laddr.port == (parts.port or 80):
                return int(process.pid)
    return None


def read_memory_bytes(pid: int | None) -> int | None:
    """Resident memory of a process and its children: the engine is one of them."""
    import psutil

    if pid is None:
        return None
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        return sum(int(process.memory_info().rss) for process in family)
    except psutil.Error:
        return None


async def take_sample(
    client: httpx.AsyncClient, address: ServerAddress, pid: int | None, began: float
) -> Sample:
    time_s = time.perf_counter() - began
    memory = read_memory_bytes(pid)
    try:
        response = await client.get(address.url.rstrip("/") + "/v1/engine", timeout=30)
    except httpx.HTTPError:
        return Sample(time_s, memory)
    if response.status_code != 200:
        return Sample(time_s, memory)
    engine = response.json()
    return Sample(
        time_s,
        memory,
        engine["num_running"],
        engine["num_waiting"],
        engine["num_pages"],
        engine["num_free_pages"],
        engine["num_active_pages"] + engine["num_shared_pages"],
        engine["num_cached_pages"],
    )


async def wait_until_idle(
    client: httpx.AsyncClient, address: ServerAddress, pid: int | None, began: float, limit_s: float
) -> Sample:
    """The first sample with nothing to do, or the last one before the limit."""
    end = time.perf_counter() + limit_s
    while True:
        sample = await take_sample(client, address, pid, began)
        is_idle = not sample.num_running and not sample.num_waiting and not sample.num_held_pages
        if is_idle or time.perf_counter() > end:
            return sample
        await asyncio.sleep(0.2)


def find_leaks(samples: Sequence[Sample], idle: Sample) -> list[str]:
    """What the server holds that it should have given back."""
    problems = []
    if idle.num_running or idle.num_waiting:
        problems.append(
            f"{idle.num_running} requests run and {idle.num_waiting} wait, though nobody asks"
        )
    if idle.num_held_pages:
        problems.append(f"{idle.num_held_pages} pages are held by nobody's request")
    counted = (idle.num_free_pages, idle.num_held_pages, idle.num_cached_pages)
    if idle.num_pages is not None and sum(count or 0 for count in counted) != idle.num_pages:
        problems.append(f"free, held and cached pages {counted} are not all {idle.num_pages}")
    growth = memory_growth(samples)
    if growth is not None:
        settled, end = growth
        if end - settled > max(GROWTH_BYTES, GROWTH_RATIO * settled):
            problems.append(f"memory grew from {settled / 1e6:,.0f} to {end / 1e6:,.0f} MB")
    return problems


def memory_growth(samples: Sequence[Sample]) -> tuple[int, int] | None:
    """Memory once it had settled, and at the end: medians of a tenth of the run each.

    The operating system gives a pool its memory when it is first written to, so memory settles
    when as many pages have been in use as ever are. None if too little of the run was after that.
    """
    known = [sample for sample in samples if sample.memory_bytes is not None]
    free = [sample.num_free_pages for sample in known]
    told = [count for count in free if count is not None]
    filled = free.index(min(told)) if told else 0
    width = max(1, round(len(known) * END_SHARE))
    start = max(round(len(known) * SETTLED_SHARE), filled + 1)
    if len(known) - start < max(MIN_SAMPLES, 2 * width):
        return None
    memory = [sample.memory_bytes or 0 for sample in known]
    return (
        round(statistics.median(memory[start : start + width])),
        round(statistics.median(memory[-width:])),
    )
