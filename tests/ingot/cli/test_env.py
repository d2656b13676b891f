"""`ingot env` lists what is set, as it is understood."""

import json

import pytest
from typer.testing import CliRunner

from ingot.cli import app


def test_values_and_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_NUM_THREADS", "3")
    result = CliRunner().invoke(app, ["env", "--json"])
    values = {row["name"]: row["value"] for row in json.loads(result.stdout)}
    assert values["INGOT_NUM_THREADS"] == 3
    assert values["INGOT_LOG"] == "warning"


def test_table() -> None:
    result = CliRunner().invoke(app, ["env"])
    assert result.exit_code == 0
    assert "NO_COLOR" in result.stdout


def test_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_NUM_THREAD", "3")
    result = CliRunner().invoke(app, ["env"])
    assert result.exit_code == 2
    assert "did you mean INGOT_NUM_THREADS?" in result.stderr
