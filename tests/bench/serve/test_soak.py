"""Soaking a server that holds, and ones that break, leak or answer nonsense wrongly."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingot.bench.serve.bad_bodies import make_bad_bodies
from ingot.bench.serve.lengths import parse_lengths
from ingot.bench.serve.soak import SoakOptions, soak
from ingot.bench.serve.soak_report import SoakReport
from ingot.bench.serve.watch import (
    Sample,
    find_leaks,
    find_server_process,
    memory_growth,
    read_memory_bytes,
)
from ingot.bench.serve.workload import Workload
from ingot.cli import app
from tests.bench.serve.conftest import FakeServer


def run(fake: FakeServer, duration_s: float = 1.0) -> SoakReport:
    workload = Workload(parse_lengths("20"), parse_lengths("uniform:2:8"))
    return soak(SoakOptions(fake.url, workload, duration_s, rate=120, timeout_s=10))


def test_a_server_that_holds(fake: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    result = CliRunner().invoke(
        app, ["bench", "soak", fake.url, "--duration", "1.5", "--load", "0.5", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "nothing broke, leaked or went unanswered" in result.stdout
    report = json.loads(out.read_text())
    assert report["problems"] == [] and report["samples"][0]["memory_bytes"] > 0
    assert report["outcomes"]["answer"]["done"] > 0
    assert out.with_suffix(".png").exists()


def test_every_kind_of_client_comes(fake: FakeServer) -> None:
    report = run(fake)
    assert report.problems == ()
    assert set(report.outcomes) == {"answer", "give up", "hang up", "bad request"}
    assert set(report.outcomes["bad request"]) == {"told why"}
    assert report.outcomes["give up"]["cancelled"] > 0


def test_broken_answers_are_problems(fake: FakeServer) -> None:
    fake.break_after = 2
    fake.bad_status = 500
    problems = " ".join(run(fake).problems)
    assert "was answered 500" in problems
    assert "the stream ended without a finish_reason" in problems


def test_refusals_are_answers(fake: FakeServer) -> None:
    fake.refuse_every = 4
    report = run(fake)
    assert report.outcomes["answer"]["refused"] > 0
    # the request after the load may itself be the fourth
    assert all("a request after the load" in problem for problem in report.problems)


def test_leaks_are_problems(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.bench.serve.soak.IDLE_LIMIT_S", 0.5)
    fake.leaked_pages = 3
    assert "3 pages are held by nobody's request" in run(fake, 0.3).problems


def sample(second: int, memory_mb: int, free: int | None = 0) -> Sample:
    return Sample(second, memory_mb << 20, 0, 0, 10, free, 0, None if free is None else 10 - free)


def test_memory_is_judged_once_every_page_was_used() -> None:
    filling = [sample(second, 100 + 10 * second, free=20 - second) for second in range(20)]
    flat = [sample(20 + second, 300) for second in range(40)]
    growing = [sample(20 + second, 300 + 3 * second) for second in range(40)]
    assert memory_growth(filling) is None  # never settled
    assert memory_growth(filling + flat) == (300 << 20, 300 << 20)
    idle = sample(99, 300)
    assert find_leaks(filling + flat, idle) == []
    (problem,) = find_leaks(filling + growing, idle)
    assert problem.startswith("memory grew from")
    lost = Sample(99, None, 0, 0, 10, 7, 0, 1)
    assert find_leaks([], lost) == ["free, held and cached pages (7, 0, 1) are not all 10"]


def test_the_listening_process_is_found(fake: FakeServer) -> None:
    assert find_server_process(fake.url) == os.getpid()
    assert find_server_process("http://example.org:80") is None
    assert (read_memory_bytes(os.getpid()) or 0) > 1 << 20
    assert read_memory_bytes(None) is None


def test_bad_bodies_differ() -> None:
    bodies = make_bad_bodies("demo")
    assert len({body for _, body in bodies}) == len({what for what, _ in bodies}) == len(bodies)
