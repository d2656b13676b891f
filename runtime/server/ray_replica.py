"""What runs on Ray's side: an engine in each replica, who hears of their state, and who chooses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import ray
from ray import serve
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from ingot.errors import EngineDead
from ingot.runtime.async_engine import AsyncEngine, EngineOptions
from ingot.runtime.engine_stats import EngineStats
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.server.prefix_index import PrefixIndex, rank_replicas

REPORT_PERIOD_S = 0.5
STALE_S = 10.0  # a replica that hasn't reported for so long is gone


@dataclass(frozen=True, slots=True)
class Job:
    """One request, as it is sent to a replica."""

    tokens: list[int]
    params: SamplingParams
    options: RequestOptions


class Board:
    """An actor that holds the latest report of each replica."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, EngineStats]] = {}

    def report(self, replica: str, stats: EngineStats) -> None:
        self._reports[replica] = (time.monotonic(), stats)

    def read(self) -> dict[str, EngineStats]:
        limit = time.monotonic() - STALE_S
        self._reports = {name: item for name, item in self._reports.items() if item[0] > limit}
        return {name: stats for name, (_, stats) in self._reports.items()}


class Replica:
    """One engine. Ray makes it, asks for its health, and starts another where it fails."""

    async def __init__(  # type: ignore[misc]  # Ray waits for it
        self, artifact: str, options: EngineOptions, board: ray.actor.ActorHandle
    ) -> None:
        self._engine = await AsyncEngine.start(artifact, **options)
        self._board = board
        self._name = serve.get_replica_context().replica_id.unique_id
        self._reporting = asyncio.create_task(self._report())

    async def get_limits(self) -> Limits:
        return self._engine.limits

    async def stream(self, job: Job) -> AsyncGenerator[Chunk, None]:
        stream = self._engine.stream(job.tokens, job.params, job.options)
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await stream.aclose()

    async def check_health(self) -> None:
        if self._engine.failure is not None:
            raise EngineDead(self._engine.failure)

    async def __del__(self) -> None:
        self._reporting.cancel()
        await self._engine.close()

    async def _report(self) -> None:
        while True:
            await self._board.report.remote(self._name, self._engine.stats())
            await asyncio.sleep(REPORT_PERIOD_S)


class PrefixRouter(RequestRouter):  # type: ignore[misc]
    """Sends a prompt to the replica that was sent most of its beginning before, unless that one
    is much busier than another."""

    def initialize_state(self) -> None:
        self._index = PrefixIndex()
        self._alive: frozenset[str] = frozenset()
        self._last: dict[str, int] = {}  # the turn in which each was chosen
        self._turn = 0

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        alive = frozenset(by_name)
        if not alive:
            return []
        if self._alive - alive:
            self._index.forget_all_but(alive)
            self._last = {name: turn for name, turn in self._last.items() if name in alive}
        self._alive = alive
        queues = self.replica_queue_len_cache
        busy = {name: queues.get(one.replica_id) or 0 for name, one in by_name.items()}
        job = find_job(pending_request)
        known = {}
        if job is not None and job.options.prefix_cache:
            known = self._index.count_known(job.tokens, job.options.cache_salt, alive)
        # one rank for each: the first that takes the request gets it
        ranked = rank_replicas(known, busy, self._last)
        self._last[ranked[0]] = self._turn = self._turn + 1
        return [[by_name[name]] for name in ranked]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: object
    ) -> None:
        job = find_job(pending_request)
        if job is not None and job.options.prefix_cache:
            self._index.record(job.tokens, job.options.cache_salt, replica_id.unique_id)


def find_job(request: PendingRequest | None) -> Job | None:
    """None for calls that no prompt comes with."""
    first = request.args[0] if request is not None and request.args else None
    return first if isinstance(first, Job) else None
