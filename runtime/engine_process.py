"""Turns a socket into a running engine: `python -m ingot.runtime.engine_process DESCRIPTOR`.

Started by `AsyncEngine`. A process of its own, so that a crash in compiled code ends the engine
and not the application, and so that the application's work does not hold up the engine's loop.
It ends when the other end of the socket closes or the application dies.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ingot.errors import EngineDead, IngotError
from ingot.runtime.engine import Engine
from ingot.runtime.engine_messages import (
    Abort,
    Add,
    Advanced,
    Channel,
    Failed,
    Ready,
    Refused,
    Start,
    pack_chunk,
)

IDLE_S = 1.0  # between two looks at whether the application is alive
COMPILING_S = 0.005  # between two looks at whether a grammar is compiled, with nothing else to do
STATS_INTERVAL_S = 0.1


class EngineProcess:
    """The loop: take what came, run a step, send what it brought. Grammars are compiled in a thread
    of their own, and their requests come after those that need none."""

    def __init__(self, engine: Engine, channel: Channel, parent_pid: int) -> None:
        self._engine = engine
        self._channel = channel
        self._parent_pid = parent_pid
        self._keys: dict[int, int] = {}  # request id -> the application's key
        self._request_ids: dict[int, int] = {}
        self._accepted: list[int] = []  # keys that the application has not been told of
        self._next_stats_s = 0.0
        self._compiling: dict[int, tuple[Add, Future[None]]] = {}  # by the application's key
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="ingot-grammars")

    def run(self) -> None:
        """Until the application closes its end (EOFError, ConnectionError)."""
        while True:
            for message in self._channel.receive(self._patience_s()):
                self._handle(message)
            self._take_compiled()
            # A fork of the application may hold the socket open after its death.
            if os.getppid() != self._parent_pid:
                return
            if self._engine.has_work:
                self._advance()

    def _patience_s(self) -> float:
        if self._engine.has_work:
            return 0.0
        return COMPILING_S if self._compiling else IDLE_S

    def _handle(self, message: Any) -> None:
        if isinstance(message, Add):
            constraint = message.params.constraint
            if constraint is None:
                self._add(message)
            else:
                compiled = self._compiler.submit(self._engine.masker.compile_ahead, constraint)
                self._compiling[message.key] = message, compiled
        else:
            assert isinstance(message, Abort)
            if message.key in self._compiling:
                self._compiling.pop(message.key)[1].cancel()
            # An abort may cross the request's last chunk.
            request_id = self._request_ids.get(message.key)
            if request_id is not None:
                self._engine.abort(request_id)

    def _take_compiled(self) -> None:
        """Let the requests in whose grammars are there, or refuse them."""
        for key, (message, compiled) in list(self._compiling.items()):
            if compiled.done():
                del self._compiling[key]
                self._add(message, compiled)

    def _add(self, message: Add, compiled: Future[None] | None = None) -> None:
        try:
            if compiled is not None:
                compiled.result()
            added = self._engine.add_request(message.prompt, message.params, message.options)
        except IngotError as error:
            self._channel.send(Refused(message.key, error))
        except Exception as error:
            # Nothing of it is in the engine yet, so it need not trouble the other requests.
            traceback.print_exc()
            reason = f"the engine can't take the request: {type(error).__name__}: {error}"
            self._channel.send(Refused(message.key, IngotError(reason)))
        else:
            self._keys[added] = message.key
            self._request_ids[message.key] = added
            self._accepted.append(message.key)

    def _advance(self) -> None:
        chunks = []
        for chunk in self._engine.step():
            key = self._keys[chunk.request_id]
            chunks.append((key, pack_chunk(chunk)))
            if chunk.is_last:
                del self._keys[self._request_ids.pop(key)]
        now = time.monotonic()
        stats = None
        if now >= self._next_stats_s or not self._engine.has_work:
            self._next_stats_s = now + STATS_INTERVAL_S
            stats = self._engine.stats()
        if chunks or stats is not None or self._accepted:
            self._channel.send(Advanced(chunks, stats, self._accepted))
            self._accepted = []


def main(descriptor: int) -> None:
    # The application decides when to stop: it may want to answer what is running first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        (start,) = _wait(channel)
        with Engine(start.artifact, **start.options) as engine:
            # Without llguidance, or a tokenizer that it can read, the requests are told.
            with contextlib.suppress(IngotError):
                engine.masker.prepare()
            # What is loaded now stays: the collector need not look at it during steps.
            gc.collect()
            gc.freeze()
            channel.send(Ready(engine.limits, engine.stats()))
            EngineProcess(engine, channel, start.parent_pid).run()
    except (EOFError, ConnectionError):
        return
    except IngotError as error:
        channel.send(Failed(error))
    except Exception as error:
        traceback.print_exc()
        channel.send(Failed(EngineDead(f"the engine stopped: {type(error).__name__}: {error}")))
        sys.exit(1)


def _wait(channel: Channel) -> list[Start]:
    while True:
        messages = channel.receive(IDLE_S)
        if messages:
            return messages


if __name__ == "__main__":
    main(int(sys.argv[1]))
