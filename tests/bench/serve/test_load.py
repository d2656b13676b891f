"""Loads: a closed one never has more in flight than clients, an open one doesn't wait."""

import asyncio
from itertools import repeat

import numpy as np
import pytest

from ingot.bench.serve.client import Record, ServerAddress
from ingot.bench.serve.load import Load, run_load
from ingot.bench.serve.workload import PlannedRequest
from tests.bench.serve.conftest import FakeServer


def run(fake: FakeServer, load: Load) -> list[Record]:
    address = ServerAddress(fake.url, "fake", extra={"temperature": 0})
    requests = repeat(PlannedRequest("a b", 5))
    return asyncio.run(run_load(address, load, requests, seed=0))


def test_closed_loop_keeps_its_clients_busy(fake: FakeServer) -> None:
    fake.first_token_s = 0.02
    records = run(fake, Load(13, concurrency=4))
    assert [record.outcome for record in records] == ["done"] * 13
    assert fake.max_running == 4


def test_open_loop_does_not_wait_for_answers(fake: FakeServer) -> None:
    fake.first_token_s = 0.3
    records = run(fake, Load(20, rate=100.0))
    assert len(records) == 20 and fake.max_running > 8
    due = np.sort([record.due_s for record in records])
    gaps = np.random.default_rng(0).exponential(1 / 100, 20)
    assert due == pytest.approx(np.cumsum(gaps))


def test_nothing_begins_after_the_end(fake: FakeServer) -> None:
    for load in (
        Load(10_000, concurrency=2, max_duration_s=0.15),
        Load(10_000, rate=50, max_duration_s=0.15),
    ):
        records = run(fake, load)
        assert 0 < len(records) < 1000
        assert max(record.due_s for record in records) <= 0.15


def test_names() -> None:
    names = [load.name for load in (Load(1, rate=2.5), Load(1, concurrency=1), Load(1, None, 8))]
    assert names == ["2.5 requests/s", "1 client", "8 clients"]
