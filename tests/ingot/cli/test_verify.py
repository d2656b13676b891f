"""`ingot verify` prints figures and verdict; exit status 1 if the model is off."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from ingot.cli import app
from ingot.compile.proof import ProofReport
from ingot.verify import Trial

PHASE = {"max_error": 0.5, "mean_error": 0.1, "kl_mean": 0.1, "kl_max": 0.2, "top1": 0.9}
FIGURES: dict[str, Any] = {
    "prefill": {**PHASE, "layer_errors": [0.1, 0.2]},
    "decode": {**PHASE, "max_error": 0.75, "layer_errors": [0.1, 0.3]},
    "greedy": {"equal": 3, "tokens": 24},
    "bounds": {"max_error": 1.0, "kl_mean": 1.0},
    "kernels": {
        "prefill": {"best": [1e-7, 2e-7, 0.0], "worst": [0.01, 0.02, 0.03]},
        "decode": {"best": [1e-7, 3e-7, 0.0], "worst": [0.01, 0.04, 0.03]},
        "bound": {"best": [1e-4, 2e-4, 1e-4], "worst": [0.05, 0.06, 0.05]},
    },
}
RIGHT = ProofReport(FIGURES, (), None)
OFF = ProofReport(FIGURES, ("prefill max_error is 0.5, the bound is 0.1",), 1)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[ProofReport]:
    """What the next verifications find."""
    found: list[ProofReport] = []

    def bisect(folder: Path, source: Any) -> Iterator[Trial]:
        yield Trial("", OFF)
        yield Trial("fuse_rope", RIGHT)

    monkeypatch.setattr("ingot.runtime.artifact.read_manifest", lambda folder: None)
    monkeypatch.setattr(
        "ingot.source.find_source",
        lambda manifest, model, **trust: SimpleNamespace(model=model, **trust),
    )
    monkeypatch.setattr("ingot.verify.verify_artifact", lambda *args, **options: found.pop())
    monkeypatch.setattr("ingot.verify.bisect_rewrites", bisect)
    return found


def test_proven(verdicts: list[ProofReport]) -> None:
    verdicts.append(RIGHT)
    result = CliRunner().invoke(app, ["verify", "folder", "--bisect"])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["max_error", "0.5", "0.75", "1"] in [row[:4] for row in rows]
    assert "layer 1 2e-07 3e-07 0.0002 0.02 0.04 0.06".split() in rows
    assert "head 0 0 0.0001 0.03 0.03 0.05".split() in rows
    assert ["verdict", "proven"] in rows
    assert "compiled without" not in result.stdout


def test_off_names_the_layer_and_the_rewrite(verdicts: list[ProofReport]) -> None:
    verdicts.append(OFF)
    result = CliRunner().invoke(app, ["verify", "folder", "--bisect"])
    assert result.exit_code == 1
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["first", "layer", "that", "departs", "1"] in rows
    assert ["(nothing)", "0.04", "off"] in rows
    assert ["fuse_rope", "0.04", "right"] in rows


def test_json(verdicts: list[ProofReport]) -> None:
    verdicts.append(OFF)
    result = CliRunner().invoke(app, ["verify", "folder", "--bisect", "--json"])
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert record["first_departing_layer"] == 1
    assert [trial["without"] for trial in record["bisect"]] == ["", "fuse_rope"]
    assert record["bisect"][1]["proven"] is True
