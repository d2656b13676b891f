"""Streams: errors before and after their start, silence, clients that go and clients that stall."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from ingot.errors import QueueFull
from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.sse import PING, EventStream
from tests.server.conftest import FakeEngine, RunningServer, Serve, read_error

Message = dict[str, Any]


def run_stream(
    events: AsyncGenerator[dict[str, Any], None],
    *,
    send: Callable[[Message], Any] | None = None,
    receive: Callable[[], Any] | None = None,
    **options: Any,
) -> list[Message]:
    sent: list[Message] = []

    async def collect(message: Message) -> None:
        if send is not None:
            await send(message)
        sent.append(message)

    async def wait() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        stream = EventStream(events, **{"write_timeout_s": 60.0, **options})
        async with asyncio.timeout(60):
            await stream({"type": "http"}, receive or wait, collect)

    asyncio.run(run())
    return sent


async def count(to: int) -> AsyncGenerator[dict[str, Any], None]:
    for number in range(to):
        yield {"n": number}


class SilentUntilPinged:
    """A source whose first event comes when its reader has been shown that the stream lives."""

    def __init__(self) -> None:
        self._pinged = asyncio.Event()

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        await self._pinged.wait()
        yield {"n": 0}

    async def take(self, message: Message) -> None:
        if message.get("body") == PING:
            self._pinged.set()


def bodies(sent: list[Message]) -> list[bytes]:
    return [message["body"] for message in sent if message["type"] == "http.response.body"]


def test_events_then_done() -> None:
    sent = run_stream(count(2))
    assert sent[0]["status"] == 200
    assert (b"content-type", b"text/event-stream; charset=utf-8") in sent[0]["headers"]
    assert bodies(sent) == [b'data: {"n":0}\n\n', b'data: {"n":1}\n\n', b"data: [DONE]\n\n", b""]


async def refuse(after: int) -> AsyncGenerator[dict[str, Any], None]:
    for number in range(after):
        yield {"n": number}
    raise bad_request("not like this")


def test_an_error_at_once_has_its_status() -> None:
    start, body = run_stream(refuse(0))
    assert start["status"] == 400
    assert json.loads(body["body"])["error"]["message"] == "not like this"


def test_an_error_later_is_an_event() -> None:
    sent = run_stream(refuse(1))
    assert sent[0]["status"] == 200
    assert b"not like this" in bodies(sent)[1] and b"[DONE]" not in b"".join(bodies(sent))


def test_a_silent_stream_shows_that_it_lives() -> None:
    source = SilentUntilPinged()
    sent = run_stream(source.events(), send=source.take, ping_s=0.01, admission_s=0.01)
    assert bodies(sent)[0] == PING and b'data: {"n":0}\n\n' in bodies(sent)


def test_a_refusal_that_comes_late_has_its_status() -> None:
    async def refuse_late() -> AsyncGenerator[dict[str, Any], None]:
        await asyncio.sleep(0.05)
        raise QueueFull("16 requests wait already", 2.3)
        yield {}

    sent = run_stream(refuse_late(), admission_s=0.01, is_accepted=asyncio.Event())
    assert sent[0]["status"] == 429


def test_an_accepted_stream_begins_before_its_first_event() -> None:
    accepted = asyncio.Event()
    accepted.set()
    source = SilentUntilPinged()
    sent = run_stream(
        source.events(), send=source.take, ping_s=0.01, admission_s=0.01, is_accepted=accepted
    )
    assert sent[0]["status"] == 200 and bodies(sent)[0] == PING


def test_a_reader_that_stalls_is_given_up() -> None:
    closed = []

    async def forever() -> AsyncGenerator[dict[str, Any], None]:
        try:
            while True:
                yield {}
        finally:
            closed.append(True)

    async def block(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    run_stream(forever(), send=block, write_timeout_s=0.05)
    assert closed


def test_a_client_that_goes_closes_the_source() -> None:
    closed = []

    async def forever() -> AsyncGenerator[dict[str, Any], None]:
        try:
            while True:
                await asyncio.sleep(0.01)
                yield {}
        finally:
            closed.append(True)

    async def leave() -> Message:
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    run_stream(forever(), receive=leave)
    assert closed


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


LONG = "word " * 400


def test_leaving_a_stream_aborts_its_request(serve: Serve) -> None:
    server = serve(FakeEngine(LONG, delay_s=0.01))
    with server.client.stream(
        "POST",
        "/v1/completions",
        json={"model": "toy", "prompt": ["a", "b"], "n": 2, "stream": True, "max_tokens": 400},
    ) as response:
        lines = response.iter_lines()
        next(lines)
        assert server.engine.num_open == 2
    wait_until(lambda: server.engine.num_open == 0)
    assert server.engine.num_aborted == 2
    (trace,) = server.state.traces._traces.values()
    wait_until(lambda: trace.state == "cancelled")


def test_leaving_a_plain_request_aborts_it_too(serve: Serve) -> None:
    server = serve(FakeEngine(LONG, delay_s=0.01))
    body = json.dumps({"model": "toy", "prompt": "a", "max_tokens": 400})
    with socket.create_connection(("127.0.0.1", server.client.base_url.port)) as connection:
        connection.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        wait_until(lambda: server.engine.num_open == 1)
    wait_until(lambda: server.engine.num_open == 0)
    assert server.engine.num_aborted == 1


def test_a_slow_reader_is_given_up_and_holds_nobody_up(serve: Serve) -> None:
    server = serve(FakeEngine("word " * 500), write_timeout_s=0.3)
    body = json.dumps(
        {"model": "toy", "prompt": "a", "max_tokens": 500, "stream": True, "n": 20,
         "logprobs": 5}
    )  # fmt: skip
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.client.base_url.port))
        connection.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        wait_until(lambda: server.engine.num_open == 1)
        assert server.complete(max_tokens=2).status_code == 200
        wait_until(lambda: server.engine.num_open == 0)
        assert server.engine.num_aborted == 1


def test_a_full_queue_says_when_to_come_again(serve: Serve) -> None:
    server = serve(FakeEngine(refusal=QueueFull("16 requests wait already", 2.3)))
    for fields in ({}, {"stream": True}):
        response = server.complete(**fields)
        assert response.status_code == 429 and response.headers["retry-after"] == "3"
        assert "wait already" in read_error(response)


def test_a_request_that_breaks_breaks_alone(serve: Serve) -> None:
    server = serve(FakeEngine(break_after=1))
    assert "its grammar broke" in read_error(server.complete())
    lines = server.complete(stream=True).text.split("\n\n")
    assert "its grammar broke" in json.loads(lines[1].removeprefix("data: "))["error"]["message"]
    server.engine.break_after = None
    assert server.complete().status_code == 200


def test_a_request_whose_time_is_over_is_told(serve: Serve) -> None:
    server = serve(FakeEngine(times_out=True))
    for fields in ({}, {"stream": True}):
        response = server.complete(**fields)
        assert response.status_code == 408 and "its first token" in read_error(response)


def test_the_engines_end_reaches_every_client(serve: Serve) -> None:
    server = serve(FakeEngine(LONG, delay_s=0.05))
    body = {"model": "toy", "prompt": "a", "max_tokens": 100, "stream": True}
    with server.client.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        assert server.client.get("/health").status_code == 200
        server.die("the engine's process was ended by SIGSEGV")
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert "SIGSEGV" in events[-1]["error"]["message"]
    health = server.client.get("/health")
    assert health.status_code == 503 and "SIGSEGV" in health.json()["detail"]
    assert server.client.get("/ready").status_code == 503
    refused = server.complete()
    assert refused.status_code == 500 and "SIGSEGV" in read_error(refused)


def test_odd_text_survives_the_wire(server: RunningServer) -> None:
    assert server.chat("a\u2028b\x00\U0001f600").status_code == 200
