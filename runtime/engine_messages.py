"""Turns the messages between an application and its engine's process into bytes and back.

A frame is its length in 4 bytes, then a pickle. Both ends are ours: one starts the other.
"""

from __future__ import annotations

import pickle
import select
import socket
import struct
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from ingot.errors import IngotError
from ingot.runtime.engine_stats import EngineStats
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams

LENGTH = struct.Struct("<I")
RECEIVE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Start:
    artifact: str
    options: dict[str, Any]
    parent_pid: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The artifact is loaded; requests may come."""

    limits: Limits
    stats: EngineStats


@dataclass(frozen=True, slots=True)
class Failed:
    """The process ends, and why."""

    error: IngotError


@dataclass(frozen=True, slots=True)
class Add:
    """`key` is the application's name for the request."""

    key: int
    prompt: list[int]
    params: SamplingParams
    options: RequestOptions


@dataclass(frozen=True, slots=True)
class Abort:
    key: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that never ran."""

    key: int
    error: IngotError


@dataclass(frozen=True, slots=True)
class Advanced:
    """What one step brought, and from time to time how the engine stands. Chunks are plain tuples:
    to pickle a dataclass takes six times as long, and there may be one for each sequence."""

    chunks: list[tuple[int, tuple[Any, ...]]]  # with their keys
    stats: EngineStats | None
    accepted: list[int]  # keys of requests that run or wait since the message before


# A chunk as the tuple of its fields; `Chunk(*values)` is the way back.
pack_chunk = attrgetter(*(field.name for field in fields(Chunk)))


def encode(message: Any) -> bytes:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


class Channel:
    """The engine's end of the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()

    def send(self, message: Any) -> None:
        self._connection.sendall(encode(message))

    def receive(self, timeout_s: float) -> list[Any]:
        """All messages that are there, none after `timeout_s`. EOFError: the other end closed."""
        if not select.select([self._connection], [], [], timeout_s)[0]:
            return []
        received = self._connection.recv(RECEIVE_BYTES)
        if not received:
            raise EOFError
        self._received += received
        messages = []
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                break
            messages.append(pickle.loads(memoryview(self._received)[LENGTH.size : end].tobytes()))
            del self._received[:end]
        return messages
