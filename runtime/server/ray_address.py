"""Turns the address of a Ray cluster into one sentence where nothing of Ray's answers there.

Ray itself tries for minutes, and a process that waits for it can't be stopped kindly.
"""

from __future__ import annotations

import socket
import struct
from urllib.parse import urlsplit

from ingot.errors import EngineDead, UsageError

PROBE_S = 3.0
SPECIAL = ("auto", "local")  # Ray finds these by itself
# Ray's servers speak gRPC, which is HTTP/2: both sides begin with their settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = 4
NO_SETTINGS = struct.pack(">3xBBI", SETTINGS, 0, 0)
HEADER_BYTES = 9
TYPE_AT = 3


def check_address(address: str) -> None:
    """Raise EngineDead, within some seconds, if `HOST:PORT` or `ray://HOST:PORT` isn't Ray's."""
    if address in SPECIAL:
        return
    host, port = split_address(address)
    try:
        with socket.create_connection((host, port), timeout=PROBE_S) as connection:
            connection.settimeout(PROBE_S)
            connection.sendall(PREFACE + NO_SETTINGS)
            answer = _receive(connection, HEADER_BYTES)
    except OSError as error:
        reason = error.strerror or str(error)
        raise EngineDead(f"no Ray cluster answers at RAY_ADDRESS, {address}: {reason}") from None
    if len(answer) < HEADER_BYTES or answer[TYPE_AT] != SETTINGS:
        raise EngineDead(f"what answers at RAY_ADDRESS, {address}, is not a Ray cluster")


def split_address(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme != "ray":
        raise UsageError(
            f"RAY_ADDRESS is {address!r}; it is HOST:PORT, ray://HOST:PORT or auto, "
            "or not set, to start Ray here"
        )
    return host, port


def _receive(connection: socket.socket, num_bytes: int) -> bytes:
    """So many bytes, or fewer where the other side ends."""
    data = b""
    while len(data) < num_bytes and (more := connection.recv(num_bytes - len(data))):
        data += more
    return data
