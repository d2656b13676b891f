"""Turns signals into an orderly end: no new work, running work finished, then the socket closed."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from ingot.runtime.server.errors import ApiError

log = logging.getLogger(__name__)

CLOSE_S = 5  # for answers that tell clients of the end


class Lifecycle:
    """Whether the server takes work, and how much of it there is."""

    def __init__(self) -> None:
        self.is_draining = False
        self.num_busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def check_open(self) -> None:
        if self.is_draining:
            raise ApiError(
                503,
                "the server is shutting down and takes no new requests",
                code="draining",
                headers={"Retry-After": "5", "Connection": "close"},
            )

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.num_busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.num_busy -= 1
            if not self.num_busy:
                self._idle.set()

    async def drain(self, drain_s: float) -> bool:
        """Take no more work and wait for what runs; whether all of it was done in time."""
        self.is_draining = True
        try:
            async with asyncio.timeout(drain_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


class DrainingServer(uvicorn.Server):
    """uvicorn, but the first signal drains while the socket still answers (503 to new work), the
    second ends at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        drain_s: float,
        end_requests: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_s = drain_s
        self._end_requests = end_requests
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A signal that is answered here is not raised again afterwards: the exit status is 0.
        if self._loop is None or self._lifecycle.is_draining:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self.begin_drain, signal.Signals(sig).name)

    def begin_drain(self, reason: str) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain(reason))

    async def _drain(self, reason: str) -> None:
        log.warning("%s: finishing %d running requests", reason, self._lifecycle.num_busy)
        if not await self._lifecycle.drain(self._drain_s):
            log.warning(
                "%d requests are still running after %g s and are ended",
                self._lifecycle.num_busy,
                self._drain_s,
            )
            await self._end_requests()
        self.should_exit = True
