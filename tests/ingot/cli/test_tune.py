"""`ingot tune` writes what the search finds and shows how it was found."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingot.bench.tune import search
from ingot.bench.tune.search import Candidate, Searched
from ingot.bench.tune.trial import Bench
from ingot.cli import app
from ingot.targets import Target
from ingot.targets.tuned import Tuning, parse_tuning

CANDIDATES = (Candidate(8, 80e-6, 90e-6), Candidate(16, 100e-6, 110e-6))
SEARCHED = Searched("matmul_tiles_per_task", 16, 8, CANDIDATES)


@pytest.fixture(autouse=True)
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(target: Target, bench: Bench, **_: object) -> tuple[Tuning, tuple[Searched, ...]]:
        sizes = (("matmul_tiles_per_task", 8),)
        return Tuning(target.name, bench.device, bench.shapes, sizes), (SEARCHED,)

    monkeypatch.setattr(search, "tune", found)


def test_sizes_are_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["tune", "--threads", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    (path,) = tmp_path.iterdir()
    assert parse_tuning(path.read_text(), "here").parameters == (("matmul_tiles_per_task", 8),)
    assert "20.0%" in result.stdout and "8: 80 µs, 16: 100 µs" in result.stdout
    as_json = CliRunner().invoke(app, ["tune", "--out", str(tmp_path), "--json"])
    assert json.loads(as_json.stdout)["searched"][0]["chosen"] == 8


def test_only_what_this_machine_runs() -> None:
    result = CliRunner().invoke(app, ["tune", "--target", "cpu:neoverse-v1"])
    assert result.exit_code == 2 and "can't run cpu:neoverse-v1" in result.stderr
    result = CliRunner().invoke(app, ["tune", "--quant", "w4"])
    assert result.exit_code == 2 and "are for GPUs" in result.stderr
