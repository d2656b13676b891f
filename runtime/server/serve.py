"""Turns an artifact and settings into a running server, from the start to the last answer."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from ingot.errors import UsageError
from ingot.runtime.async_engine import AsyncEngine, EngineOptions
from ingot.runtime.server.app import create_app, create_state, read_generation_config
from ingot.runtime.server.engine import ServingEngine
from ingot.runtime.server.lifecycle import CLOSE_S, DrainingServer
from ingot.runtime.server.settings import LOOPBACK_HOSTS, ServerSettings
from ingot.runtime.server.state import ServerState

MAX_HEADER_BYTES = 64 * 1024
# Longer than clients and proxies keep a connection (httpx 5 s, nginx 60): who closes first, and as
# the other sends, breaks a request. The server must be the last.
KEEP_ALIVE_S = 75
StartEngine = Callable[..., Awaitable[ServingEngine]]  # takes an artifact and EngineOptions


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 8000

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "127.0.0.1", "::1")


def own_hosts(address: Address, extra: tuple[str, ...]) -> tuple[str, ...]:
    """The names that requests may call the server by: on a loopback address its own, so that no
    web page can reach it under a name of the page's; elsewhere any, if none are given."""
    return (*LOOPBACK_HOSTS, *extra) if address.is_loopback else extra


async def run_server(
    artifact: Path,
    settings: ServerSettings,
    address: Address,
    options: EngineOptions,
    announce: Callable[[ServerState, str], None],
    start: StartEngine = AsyncEngine.start,
) -> None:
    """Serve until a signal has been answered. `announce` is called when requests can come."""
    with bind(address) as listener:
        engine = await start(artifact, **options)
        try:
            state = create_state(engine, settings, read_generation_config(artifact))
            await _serve(state, listener, announce)
        finally:
            await engine.close()


async def _serve(
    state: ServerState, listener: socket.socket, announce: Callable[[ServerState, str], None]
) -> None:
    config = uvicorn.Config(
        create_app(state),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=CLOSE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        http="h11",  # the other implementation reads headers of any length into memory
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    server = DrainingServer(config, state.lifecycle, state.settings.drain_s, state.engine.close)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        announce(state, find_url(listener))
    await serving


def bind(address: Address) -> socket.socket:
    """Take the address before the model is loaded: a port that is taken is told at once."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) if it finds this protocol. Without, an answer's body waits
    # until the client's system confirms the head, which it puts off.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{address.host}:{address.port} can't be listened on: {error.strerror}",
            "another program may have the port; choose one with --port",
        ) from None
    return listener


def find_url(listener: socket.socket) -> str:
    """The URL, with the port that was found where 0 was asked for."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def describe_start(state: ServerState, url: str) -> str:
    """What is printed when requests can come: one line, and one to paste."""
    stats = state.engine.stats()
    page = state.engine.model_info.page_size_tokens
    key = " -H 'Authorization: Bearer KEY'" if state.keys else ""
    body = f'{{"model": "{state.model_name}", "prompt": "def fibonacci(", "max_tokens": 32}}'
    return (
        f"{state.model_name} on {url}, {stats.num_pages} KV pages of {page} tokens\n"
        f"try: curl {url}/v1/completions -H 'Content-Type: application/json'{key} -d '{body}'"
    )


def announce_on_stderr(state: ServerState, url: str) -> None:
    print(describe_start(state, url), file=sys.stderr, flush=True)
