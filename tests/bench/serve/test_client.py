"""One request as its client sees it: whole, cancelled, refused, broken off, and nobody there."""

import asyncio
import time
from typing import Any

import pytest

from ingot.bench.serve.client import (
    Record,
    ServerAddress,
    calibrate,
    find_model,
    open_client,
    read_message,
    send,
)
from ingot.bench.serve.workload import PlannedRequest
from ingot.errors import IngotError
from tests.bench.serve.conftest import FakeServer


def ask(url: str, request: PlannedRequest, **changes: Any) -> Record:
    address = ServerAddress(url, "fake", extra={"temperature": 0}, **changes)

    async def run() -> Record:
        async with open_client(address) as client:
            return await send(client, address, request, due_s=0.0, began=time.perf_counter())

    return asyncio.run(run())


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_whole_answer(fake: FakeServer, endpoint: str) -> None:
    record = ask(fake.url, PlannedRequest("a b c", 10), endpoint=endpoint)
    assert (record.outcome, record.error) == ("done", "")
    assert (record.num_prompt_tokens, record.num_output_tokens) == (8, 10)
    assert len(record.piece_s) == 10 and len(record.gaps_s) == 9
    assert record.ttft_s is not None and record.ttft_s >= fake.first_token_s
    assert record.tpot_s is not None and record.tpot_s > 0
    assert ("messages" in fake.bodies[0]) == (endpoint == "chat")


def test_cancelled_request_hangs_up(fake: FakeServer) -> None:
    fake.token_s = 0.02
    record = ask(fake.url, PlannedRequest("a", 500, cancel_after=3))
    assert (record.outcome, len(record.piece_s)) == ("cancelled", 3)
    end = time.monotonic() + 60
    while not fake.num_cancelled and time.monotonic() < end:
        time.sleep(0.01)
    assert fake.num_cancelled == 1


def test_refusals_and_errors_carry_their_reason(fake: FakeServer) -> None:
    assert ask(fake.url, PlannedRequest("a", 0)).error == "400: no"
    fake.refuse_every = 1
    record = ask(fake.url, PlannedRequest("a", 5))
    assert (record.outcome, record.error) == ("refused", "429: no")


def test_an_answer_without_text_is_there_when_it_ends(fake: FakeServer) -> None:
    """Tokens of a model with random weights may spell nothing."""
    fake.text = ""
    record = ask(fake.url, PlannedRequest("a", 5))
    assert (record.outcome, len(record.piece_s), record.num_output_tokens) == ("done", 1, 5)
    assert record.ttft_s is not None and record.ttft_s >= fake.first_token_s


def test_a_stream_without_an_end_is_a_failure(fake: FakeServer) -> None:
    fake.break_after = 2
    record = ask(fake.url, PlannedRequest("a", 5))
    assert record.outcome == "failed" and "finish_reason" in record.error


def test_nobody_there() -> None:
    record = ask("http://127.0.0.1:9", PlannedRequest("a", 5))
    assert record.outcome == "failed" and record.error.startswith("ConnectError")
    with pytest.raises(IngotError, match="can't be reached"):
        asyncio.run(find_model("http://127.0.0.1:9", None))


def test_calibration_asks_the_server_for_its_own_count(fake: FakeServer) -> None:
    address = ServerAddress(fake.url, "fake", extra={"temperature": 0})
    # a word a token; the five tokens of every prompt don't count
    assert asyncio.run(calibrate(address)) == 1.0
    fake.has_usage = False
    with pytest.raises(IngotError, match="doesn't say how many tokens"):
        asyncio.run(calibrate(address))
    assert asyncio.run(find_model(fake.url, None)) == "fake"


def test_messages_of_all_kinds_of_errors() -> None:
    assert read_message('{"error": {"message": "why"}}') == "why"
    assert read_message('{"error": "why"}') == "why"
    assert read_message("<html>" * 100) == ("<html>" * 100)[:300]


def test_latency_counts_from_when_a_request_was_due() -> None:
    record = Record("done", 1.0, 1.5, 3.0, (2.0, 2.1, 2.3), num_output_tokens=4)
    assert record.ttft_s == pytest.approx(1.0)
    assert record.tpot_s == pytest.approx(0.1)
    assert record.gaps_s == pytest.approx((0.1, 0.2))
    assert Record("failed", 0, 0, 0).ttft_s is None
