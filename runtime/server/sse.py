"""Turns an async iterator of events into a stream of server-sent events, at the reader's pace.

A slow reader slows its own stream: the next event is made when the socket has taken the last one.
One that reads nothing for `write_timeout_s` is given up. When the client goes, the iterator is
closed, and with it the engine's request.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingot.runtime.server.errors import as_api_error

HEADERS = {
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would collect events otherwise
}
PING_S = 15.0
ADMISSION_S = 2.0  # errors that come within this time have a status of their own, refusals always
PING = b": still here\n\n"
DONE = b"data: [DONE]\n\n"

Event = Mapping[str, Any]


def encode_event(event: Event) -> bytes:
    return (
        b"data: "
        + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        + b"\n\n"
    )


EVENT_STREAM = "text/event-stream"
# For the OpenAPI document of a route that streams if it is asked to.
STREAMED: dict[str, Any] = {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}


class EventStream(Response):
    """One `data:` line for each event, `[DONE]` after the last, an error object if it breaks."""

    media_type = EVENT_STREAM

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        *,
        write_timeout_s: float,
        headers: Mapping[str, str] | None = None,
        admission_s: float = ADMISSION_S,
        ping_s: float = PING_S,
        is_accepted: asyncio.Event | None = None,
    ) -> None:
        """Where `is_accepted` is given, the status waits for it, or for an error in its place."""
        self.status_code = 200
        self.background = None
        self.init_headers({**HEADERS, **(headers or {})})
        self._events = events
        self._write_timeout_s = write_timeout_s
        self._admission_s = admission_s
        self._ping_s = ping_s
        self._is_accepted = is_accepted
        self._num_sending = 0
        self._moved_s = 0.0  # when the last message began or ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = asyncio.create_task(self._write(scope, receive, send))
        others = (
            asyncio.create_task(wait_for_disconnect(receive)),
            asyncio.create_task(self._watch(send)),
        )
        try:
            await asyncio.wait({body, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (body, *others):
                task.cancel()
            result, *_ = await asyncio.gather(body, *others, return_exceptions=True)
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events) as events:
            first = asyncio.ensure_future(anext(events, None))
            try:
                await asyncio.wait({first}, timeout=self._admission_s)
                await self._wait_for_acceptance(first)
                if first.done() and (refusal := first.exception()) is not None:
                    assert isinstance(refusal, Exception)
                    await as_api_error(refusal).response()(scope, receive, send)
                    return
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )
                self._moved_s = time.monotonic()
                await self._write_events(first, events, send)
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)

    async def _wait_for_acceptance(self, first: asyncio.Future[Event | None]) -> None:
        """A starved engine may take long to say that its queue is full."""
        if first.done() or self._is_accepted is None:
            return
        accepted = asyncio.ensure_future(self._is_accepted.wait())
        either: set[asyncio.Future[Any]] = {first, accepted}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            accepted.cancel()

    async def _write_events(
        self,
        first: asyncio.Future[Event | None],
        events: AsyncGenerator[Event, None],
        send: Send,
    ) -> None:
        try:
            event = await first
            if event is not None:
                await self._send(send, encode_event(event))
                async for event in events:
                    await self._send(send, encode_event(event))
        except OSError:
            raise  # the client is gone
        except Exception as error:
            await self._send(send, encode_event(as_api_error(error).body()))
        else:
            await self._send(send, DONE)
        await self._send(send, b"", more=False)

    async def _watch(self, send: Send) -> None:
        """Show a silent stream to be alive; return when a reader has stalled for too long."""
        while True:
            await asyncio.sleep(min(self._ping_s, self._write_timeout_s) / 4)
            silent_s = time.monotonic() - self._moved_s
            if self._num_sending and silent_s > self._write_timeout_s:
                return
            if not self._num_sending and self._moved_s and silent_s > self._ping_s:
                await self._send(send, PING)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        self._num_sending += 1
        self._moved_s = time.monotonic()
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self._moved_s = time.monotonic()
        self._num_sending -= 1


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
