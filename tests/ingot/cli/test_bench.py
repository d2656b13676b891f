"""`ingot bench compare` passes on what was given and prints the library's table."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ingot.cli import app
from ingot.errors import UsageError


@dataclass(frozen=True)
class FakeReport:
    name: str = "the report"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    calls: list[tuple[str, dict[str, Any]]] = []

    def compare(model: str, **options: Any) -> FakeReport:
        options.pop("progress")("measuring")
        calls.append((model, options))
        return FakeReport()

    monkeypatch.setattr("ingot.bench.compare.compare", compare)
    monkeypatch.setattr("ingot.bench.table.render_report", lambda report: f"table of {report.name}")
    return calls


def test_defaults_are_the_librarys(asked: list[tuple[str, dict[str, Any]]]) -> None:
    result = CliRunner().invoke(app, ["bench", "compare", "demo"])
    assert result.exit_code == 0, result.output
    assert result.stdout == "table of the report\n"
    assert result.stderr == "measuring\n"
    expected = {"artifact": None, "target": None, "out": None, "trust_remote_code": False}
    assert asked == [("demo", expected)]


def test_options(asked: list[tuple[str, dict[str, Any]]]) -> None:
    words = "--backend compiled --backend eager --prompt-tokens 16 --prompt-tokens 64 --batch 2"
    more = "--new-tokens 8 --repeat 2 --quant w4 --threads 1 --artifact a --out r.json --json"
    result = CliRunner().invoke(app, ["bench", "compare", "demo", *words.split(), *more.split()])
    assert json.loads(result.stdout) == {"name": "the report"}
    options = asked[0][1]
    assert options["backends"] == ["compiled", "eager"]
    assert options["prompt_lengths"] == [16, 64]
    assert options["batch_sizes"] == [2]
    assert (options["new_tokens"], options["repetitions"], options["threads"]) == (8, 2, 1)
    assert (options["artifact"], options["out"]) == (Path("a"), Path("r.json"))


@pytest.mark.parametrize("place", [".", "a-file/report.json"])
def test_a_report_that_cant_be_written_is_refused_before_the_work(
    place: str, asked: list[tuple[str, dict[str, Any]]], tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()
    words = ["bench", "compare", "demo", "--out", str(tmp_path / place)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "'--out'" in result.stderr and asked == []


def test_refusal_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: str, **options: Any) -> None:
        raise UsageError("backend 'fast' isn't known")

    monkeypatch.setattr("ingot.bench.compare.compare", refuse)
    result = CliRunner().invoke(app, ["bench", "compare", "demo", "--backend", "fast"])
    assert result.exit_code == 2
    assert "backend 'fast'" in result.stderr


def test_bench_alone_is_help() -> None:
    result = CliRunner().invoke(app, ["bench"])
    assert result.exit_code == 2
    assert "compare" in result.output
