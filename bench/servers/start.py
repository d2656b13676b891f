"""Turns a server's name and its form of the model into a running process and its address."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ingot.bench.process import describe_end, last_words, timed_environment
from ingot.errors import UsageError

HOST = "127.0.0.1"
START_LIMIT_S = 180.0
STOP_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Slots:
    """What a server is given: requests at the same time, tokens of each, threads."""

    count: int
    context: int
    threads: int


def command(name: str, path: str, program: str | None, slots: Slots, port: int) -> list[str]:
    """How a server is started. Each batches continuously, with `slots.count` places."""
    address = ["--host", HOST, "--port", str(port)]
    if name == "ingot":
        start = [program or sys.executable, "-m", "ingot.cli", "serve", path]
        sizes = {"--threads": slots.threads, "--max-sequences": slots.count}
    elif name == "llama.cpp":
        start = [program or "llama-server", "--model", path]
        sizes = {
            "--threads": slots.threads,
            "--threads-batch": slots.threads,
            "--parallel": slots.count,
            "--ctx-size": slots.count * slots.context,
        }
    else:
        raise UsageError(f"{name!r} is no server that can be started; ingot and llama.cpp are")
    return [*start, *address, *(text for pair in sizes.items() for text in map(str, pair))]


@contextmanager
def running(
    name: str, path: str, program: str | None, slots: Slots, log: Path
) -> Iterator[tuple[str, list[str]]]:
    """A server's address and command, once it answers; stopped at the end."""
    port = find_port()
    arguments = command(name, path, program, slots, port)
    environment = timed_environment(slots.threads)
    with log.open("w") as output:
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        except OSError as error:
            raise UsageError(f"{name}: {arguments[0]} can't be run: {error}") from error
        try:
            url = f"http://{HOST}:{port}"
            wait_until_ready(name, url, process, log)
            yield url, arguments
        finally:
            stop(process)


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until_ready(name: str, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server says that it is healthy: until then it loads the model."""
    end = time.monotonic() + START_LIMIT_S
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < end:
            status = process.poll()
            if status is not None:
                raise UsageError(f"{name} did not start: {describe_end(status, log)}")
            try:
                if client.get(f"{url}/health").status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass  # nobody listens yet
            time.sleep(0.1)
    said = last_words(log) or "nothing"
    raise UsageError(f"{name} was not ready within {START_LIMIT_S:g} s; it said last: {said}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
