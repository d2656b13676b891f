"""What a long prompt does to streams, and what a shared beginning saves, as clients see it."""

import json
from pathlib import Path

from typer.testing import CliRunner

from ingot.bench.serve.stall import EngineSide, StallRun, Verdict, split_gaps
from ingot.cli import app
from tests.bench.serve.conftest import FakeServer


def test_gaps_before_and_during() -> None:
    usual, during = split_gaps([[1.0, 2.0, 3.5, 5.0, 6.0]], arrived_s=3.0, read_s=4.0)
    assert usual == [1.0]
    assert during == [1.5, 1.5]  # the prompt came within the first, and was read within the second


def test_bounds_of_the_engine_and_of_clients() -> None:
    engine = EngineSide(0.2, full_step_s=0.25, token_s=0.05, longest_gap_s=0.3)
    run = StallRun(100, 0.5, 0.6, engine, 0.05, longest_usual_gap_s=0.1, longest_gap_s=0.1)
    assert engine.bound_s == 0.3
    assert run.bound_s == 0.35


def test_the_verdict_is_of_the_worst_run() -> None:
    assert Verdict.of([(0.5, 1.0), (0.3, 0.2), (0.1, 0.1)]) == Verdict(0.3, 0.2, runs_held=2)


def test_stalls_are_measured(fake: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "stall.json"
    common = ("--prompt-tokens", "50", "--output-tokens", "200", "--streams", "3", "--repeat", "2")
    result = CliRunner().invoke(app, ["bench", "stall", fake.url, *common, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "a prompt of 55 tokens among 3 streams" in result.stdout
    assert "engine: at most 15.0 ms between two tokens; bound 21.0 ms" in result.stdout
    assert "held in 2 of 2 runs" in result.stdout
    report = json.loads(out.read_text())
    assert len(report["runs"]) == 2 and report["step_tokens"] == 20
    assert all(run["longest_gap_s"] >= fake.token_s for run in report["runs"])
    assert fake.max_running == 4
    assert all(body["logit_bias"] == {"7": 100} for body in fake.bodies[2:])


def test_a_stall_beyond_the_bound_is_told(fake: FakeServer) -> None:
    fake.stall_s = 0.05
    arguments = ["--prompt-tokens", "50", "--streams", "1", "--repeat", "1"]
    result = CliRunner().invoke(app, ["bench", "stall", fake.url, *arguments])
    assert "engine: at most 50.0 ms between two tokens; bound 21.0 ms" in result.stdout
    assert "held in 0 of 1 runs" in result.stdout


def test_streams_must_outlast_the_prompt(fake: FakeServer) -> None:
    arguments = ["--output-tokens", "17", "--prompt-tokens", "50"]
    result = CliRunner().invoke(app, ["bench", "stall", fake.url, *arguments])
    assert result.exit_code == 1
    assert "a stream ended before the prompt was read, after 17 tokens" in result.stderr


def test_a_stream_that_spells_nothing_is_named(fake: FakeServer) -> None:
    fake.text = ""
    result = CliRunner().invoke(app, ["bench", "stall", fake.url, "--prompt-tokens", "50"])
    assert result.exit_code == 1
    assert "a stream ended before the prompt was read" in result.stderr


def test_a_server_without_traces_is_refused(fake: FakeServer) -> None:
    fake.has_traces = False
    result = CliRunner().invoke(app, ["bench", "stall", fake.url])
    assert result.exit_code == 2
    assert "no traces" in result.stderr


def test_a_shared_beginning_is_measured(fake: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "prefix.json"
    sizes = ("--prefix-tokens", "40", "--own-tokens", "5", "--repeat", "2")
    result = CliRunner().invoke(app, ["bench", "prefix", fake.url, *sizes, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["share"] > 0
    prompts = [body["prompt"].split() for body in fake.bodies[2:]]
    assert [len(prompt) for prompt in prompts] == [45] * 6
    assert prompts[2][:40] == prompts[3][:40] != prompts[4][:40]
    assert prompts[2][40:] != prompts[3][40:]
