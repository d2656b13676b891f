"""Turns an artifact and a number of replicas into one engine for the server, by Ray Serve.

The server stays as it is, one process with its keys, limits, drain and page; in place of an engine
it has a handle to replicas of it, on this machine or on a cluster's (RAY_ADDRESS). Ray starts,
watches, restarts and scales the replicas; `PrefixRouter` chooses among them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Unpack

import ray
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import BackPressureError, RequestCancelledError

from ingot.errors import EngineDead, IngotError, QueueFull, RequestError, UsageError
from ingot.runtime.artifact.manifest import Manifest, read_manifest
from ingot.runtime.async_engine import EngineOptions
from ingot.runtime.engine_stats import Counters, EngineStats
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.server.ray_address import check_address
from ingot.runtime.server.ray_replica import REPORT_PERIOD_S, Board, Job, PrefixRouter, Replica
from ingot.runtime.tokenizer import Tokenizer

APP = "ingot"
OBJECT_STORE_BYTES = 128 << 20  # chunks of text are all that goes through it
UNLIMITED = 100_000
RETRY_AFTER_S = 1.0
HEALTH_PERIOD_S = 2.0
CLOSE_S = 2.0  # for replicas whose requests have ended
LAST_REQUESTS_S = 600.0  # for the requests of a replica that is taken away
LOAD_PERIOD_S = 1.0  # how often Ray is told the load


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas: always `replicas`, or between it and `max_replicas` as they are needed,
    each with about `target_requests` at a time. The load must have been high for `up_after_s`
    before one is added, and low for `down_after_s` before one is taken away."""

    replicas: int
    max_replicas: int | None = None
    target_requests: float = 16.0
    up_after_s: float = 10.0
    down_after_s: float = 300.0

    def __post_init__(self) -> None:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise UsageError(
                f"max_replicas is {self.max_replicas}, fewer than replicas, {self.replicas}"
            )

    @property
    def most(self) -> int:
        return self.max_replicas or self.replicas

    def settings(self) -> dict[str, Any]:
        """How Ray Serve is told."""
        if self.max_replicas is None:
            return {"num_replicas": self.replicas, "graceful_shutdown_timeout_s": CLOSE_S}
        return {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=self.replicas,
                max_replicas=self.max_replicas,
                target_ongoing_requests=self.target_requests,
                upscale_delay_s=self.up_after_s,
                downscale_delay_s=self.down_after_s,
                metrics_interval_s=LOAD_PERIOD_S,
                # the mean over this time: longer than the delay, it would be a delay of its own
                look_back_period_s=max(2 * LOAD_PERIOD_S, min(self.up_after_s, self.down_after_s)),
            ),
            # a replica that is taken away gets no new requests, and ends those it has
            "graceful_shutdown_timeout_s": LAST_REQUESTS_S,
        }


def start_replicas(scale: Scale) -> Callable[..., Awaitable[ReplicatedEngine]]:
    """`ReplicatedEngine.start`, called as `AsyncEngine.start` is."""

    async def start(artifact: Path, **options: Unpack[EngineOptions]) -> ReplicatedEngine:
        return await ReplicatedEngine.start(artifact, scale, options)

    return start


class ReplicatedEngine:
    """Several engines as one. Made by `ReplicatedEngine.start`; has what the server uses of
    `AsyncEngine`. `limits` are those of one replica."""

    def __init__(self, artifact: Path, handle: Any, board: Any, limits: Limits) -> None:
        self.model_info: Manifest = read_manifest(artifact)
        self.tokenizer = Tokenizer(artifact, self.model_info.model.config)
        self.limits = limits
        self.failure: str | None = None
        self._stream = handle.options(method_name="stream", stream=True)
        self._board = board
        self._reports: dict[str, EngineStats] = {}
        self._gone = Counters()  # of replicas that there were: totals must not fall
        self._streams: set[Any] = set()
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def start(cls, artifact: Path, scale: Scale, options: EngineOptions) -> ReplicatedEngine:
        """Connect to Ray, or start it here, and wait until every replica is loaded."""
        artifact = artifact.resolve()
        read_manifest(artifact)  # what is wrong with it is said before anything starts
        threads = options.get("num_threads") or max(1, (os.cpu_count() or 1) // scale.most)
        options = {**options, "num_threads": threads}
        await asyncio.to_thread(connect, threads * scale.most)
        board = ray.remote(num_cpus=0)(Board).remote()
        try:
            handle = await asyncio.to_thread(deploy, artifact, scale, options, board)
            limits = await handle.get_limits.remote()
        except (RuntimeError, RayError) as error:
            await asyncio.to_thread(disconnect)
            raise EngineDead(f"the replicas did not start: {last_line(error)}") from None
        engine = cls(artifact, handle, board, limits)
        while engine.num_replicas < scale.replicas:  # they are loaded: until they have said so
            await asyncio.sleep(REPORT_PERIOD_S / 10)
        return engine

    def stats(self) -> EngineStats:
        """All replicas together, as they stood a moment ago."""
        return add_stats(list(self._reports.values()), self._gone)

    @property
    def num_replicas(self) -> int:
        return len(self._reports)

    async def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        options: RequestOptions | None = None,
        on_accepted: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """As `AsyncEngine.stream`, from the replica that suits the prompt best. That it took the
        request is known by its first chunk."""
        tokens = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        params, options = params or SamplingParams(), options or RequestOptions()
        self.limits.check(tokens, params, options)
        chunks = self._stream.remote(Job(tokens, params, options))
        self._streams.add(chunks)
        is_done = False
        try:
            async for chunk in chunks:
                if on_accepted is not None:
                    on_accepted()
                yield chunk
            is_done = True
        except BackPressureError:
            is_done = True
            raise QueueFull("every replica is full", RETRY_AFTER_S) from None
        except RayTaskError as error:
            is_done = True
            raise as_ingot_error(error) from None
        except RayActorError:
            is_done = True
            raise EngineDead("the replica that answered this request ended") from None
        except (RequestCancelledError, TaskCancelledError):
            is_done = True
            raise EngineDead(self.failure or "the request was cancelled by Ray") from None
        finally:
            self._streams.discard(chunks)
            if not is_done:
                chunks.cancel()

    async def close(self) -> None:
        """End the replicas, and Ray if it was started here."""
        self.failure = self.failure or "the engine is closed"
        self._watching.cancel()
        for chunks in self._streams:
            chunks.cancel()  # replicas wait for their requests before they end
        await asyncio.to_thread(disconnect)

    async def _watch(self) -> None:
        while True:
            reports = await self._board.read.remote()
            gone = [one for name, one in self._reports.items() if name not in reports]
            self._gone = add_stats(gone, self._gone).counters
            has_begun = bool(self._reports)
            self._reports = reports
            self.failure = None if reports else "no replica answers"
            await asyncio.sleep(REPORT_PERIOD_S if has_begun else REPORT_PERIOD_S / 10)


def connect(num_cpus: int) -> None:
    """Join the cluster at RAY_ADDRESS, or start Ray here."""
    common: dict[str, Any] = {
        "namespace": APP,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    address = os.environ.get("RAY_ADDRESS")
    if address:
        check_address(address)
    try:
        if address:
            ray.init(**common)
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=max(num_cpus, os.cpu_count() or 1),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            **common,
        )
    except Exception as error:  # the library raises the bare class
        where = f"at RAY_ADDRESS, {address}, can't be joined" if address else "did not start here"
        raise EngineDead(f"Ray {where}: {last_line(error)}") from None


def deploy(artifact: Path, scale: Scale, options: EngineOptions, board: Any) -> Any:
    """A handle to the replicas, when they are ready."""
    # the server in this process is what listens: no proxy of Ray's
    serve.start(proxy_location="Disabled")
    deployment = serve.deployment(
        name="engine",
        ray_actor_options={"num_cpus": options["num_threads"]},
        # each engine knows best how many requests may run and wait
        max_ongoing_requests=UNLIMITED,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_wait_loop_s=CLOSE_S / 10,
        request_router_config=RequestRouterConfig(request_router_class=PrefixRouter),
        **scale.settings(),
    )(Replica)
    application = deployment.bind(str(artifact), options, board)
    return serve.run(application, name=APP, route_prefix=None)


def disconnect() -> None:
    """End the replicas, and Ray if it was started here: it ends with who started it."""
    serve.delete(APP)
    ray.shutdown()


def last_line(error: Exception) -> str:
    """Ray's messages begin with where they come from and end with what was wrong."""
    return (str(error).strip() or repr(error)).splitlines()[-1].strip()


def as_ingot_error(error: RayTaskError) -> IngotError:
    """What the replica raised, before it came through Ray."""
    cause = error.cause
    if isinstance(cause, IngotError):
        return cause
    return RequestError(f"the request failed in its replica: {cause}")


def add_stats(reports: Sequence[EngineStats], before: Counters | None = None) -> EngineStats:
    """Sums, with the counters `before`, and the page maps one after the other."""
    numbers = [f.name for f in fields(EngineStats) if f.name.startswith("num_")]
    counters = [report.counters for report in reports] + ([] if before is None else [before])
    return EngineStats(
        **{name: sum(getattr(report, name) for report in reports) for name in numbers},
        page_map=b"".join(report.page_map for report in reports),
        counters=Counters(
            **{f.name: sum(getattr(one, f.name) for one in counters) for f in fields(Counters)}
        ),
    )
