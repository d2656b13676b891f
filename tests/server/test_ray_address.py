"""Addresses of clusters: told apart in a moment, without Ray."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ingot.errors import EngineDead, UsageError
from ingot.runtime.server import ray_address
from ingot.runtime.server.ray_address import NO_SETTINGS, PREFACE, check_address, split_address


@contextmanager
def server_that_says(answer: bytes) -> Iterator[str]:
    """The address of a server that takes one connection."""
    heard = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(1000))
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()
    assert heard == [PREFACE + NO_SETTINGS]


def test_what_speaks_as_ray_does_is_tried() -> None:
    with server_that_says(NO_SETTINGS + b"more") as address:
        check_address(address)
    with server_that_says(NO_SETTINGS) as address:
        check_address(f"ray://{address}")
    check_address("auto")


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"", b"\0\0"])
def test_other_servers_are_told_apart(answer: bytes) -> None:
    with (
        server_that_says(answer) as address,
        pytest.raises(EngineDead, match=f"at RAY_ADDRESS, {address}, is not a Ray cluster"),
    ):
        check_address(address)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(EngineDead, match=f"at RAY_ADDRESS, {address}: Connection refused"):
        check_address(address)


def test_a_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address, "PROBE_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(EngineDead, match=f"at RAY_ADDRESS, {address}: timed out"):
            check_address(address)


def test_addresses_are_split() -> None:
    assert split_address("10.0.0.5:6379") == ("10.0.0.5", 6379)
    assert split_address("ray://head:10001") == ("head", 10001)
    assert split_address("[::1]:6379") == ("::1", 6379)


@pytest.mark.parametrize(
    "address", ["head", "head:", ":6379", "head:99999", "http://head:1", "a b"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="RAY_ADDRESS is"):
        split_address(address)
