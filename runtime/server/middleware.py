"""Turns raw requests into ones worth routing: host, key, size, and whether the server takes any.

Plain ASGI, so that streams pass through untouched.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingot.runtime.server.auth import KeyRing
from ingot.runtime.server.errors import ApiError
from ingot.runtime.server.lifecycle import Lifecycle
from ingot.runtime.server.metrics import Metrics
from ingot.runtime.server.settings import ServerSettings

OPEN_PATHS = ("/", "/health", "/ready")
OPEN_PREFIX = "/page/"  # the page asks for the key itself
KEY_NAME = "ingot.key_name"
# Of a refused request's body, so that its client, who reads after it has sent, hears the answer.
DISCARDED_BYTES = 64 << 20
DISCARDED_S = 5.0


class Gate:
    """Refuses what must not reach a route, and counts what does."""

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, keys: KeyRing, lifecycle: Lifecycle
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        is_work = scope["method"] == "POST"
        headers = Headers(scope=scope)
        body = _Body(receive)
        try:
            self._check_host(headers)
            scope[KEY_NAME] = self._identify(scope, headers)
            if is_work:
                self._lifecycle.check_open()
                receive = await self._read_body(headers, body)
        except ApiError as error:
            if is_work and error.status != 408:
                await body.discard(headers)
            await error.response()(scope, receive, send)
            return
        except ConnectionError:
            return  # the client went while it sent its body
        if not is_work:
            await self._app(scope, receive, send)
            return
        with self._lifecycle.busy():
            await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """A page of another site can point its own name at this address and then read answers."""
        allowed = self._settings.allowed_hosts
        if not allowed:
            return
        host = headers.get("host", "")
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if name.lower() not in allowed:
            raise ApiError(
                421, f"this server is not called {name!r}; --allowed-host adds a name to it"
            )

    def _identify(self, scope: Scope, headers: Headers) -> str:
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return ""
        header = headers.get("authorization")
        return self._keys.identify(None if header is None else header.encode("latin-1"))

    async def _read_body(self, headers: Headers, source: _Body) -> Receive:
        """Read all of the body, within the limits of size and time, and hand it on at once."""
        limit = self._settings.max_body_bytes
        too_large = ApiError(
            413,
            f"the body has more than {limit} bytes, this server's limit",
            code="body_too_large",
            headers={"Connection": "close"},
        )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while not source.is_whole:
                    message = await source.receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionError
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise ApiError(
                408,
                f"the body took longer than {self._settings.body_timeout_s:g} s",
                headers={"Connection": "close"},
            ) from None
        return _replay(bytes(body), source.receive)


class _Body:
    """A request's body as it comes, and whether all of it has come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_whole = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_whole = not message.get("more_body", False)
        return message

    async def discard(self, headers: Headers) -> None:
        """Let the client send the rest, if that isn't endless and comes at once: the connection
        ends with the answer, and a client that still sends would see that end and nothing else."""
        length = headers.get("content-length", "")
        if "expect" in headers or (length.isdecimal() and int(length) > DISCARDED_BYTES):
            return  # it waits to be told, or would go on for long
        num_bytes = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARDED_S):
                while not self.is_whole and num_bytes <= DISCARDED_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body in one piece, then whatever the connection says next."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("x-content-type-options", "nosniff")
        await send(message)

    return sending


class HttpMetrics:
    """Counts answers by the route that gave them; a path that no route has is counted as such."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "none")
                self._metrics.observe_http(path, message["status"])
            await send(message)

        await self._app(scope, receive, counting)
