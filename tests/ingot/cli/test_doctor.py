"""`ingot doctor` prints the findings; only what the runtime needs makes it fail."""

import json

import pytest
from typer.testing import CliRunner

from ingot.cli import app
from ingot.doctor import Finding

GOOD = Finding("python", True, "3.11", required=True)
NO_DRIVER = Finding("cuda driver", False, "not found", "install it")
NO_FFI = Finding("apache-tvm-ffi", False, "not installed", "pip install ingot", required=True)


def test_lacking_a_gpu_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.doctor.examine", lambda: [GOOD, NO_DRIVER])
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "lacks  cuda driver  not found  install it" in result.stdout


def test_lacking_the_runtime_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.doctor.examine", lambda: [GOOD, NO_FFI])
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)[1]["remedy"] == "pip install ingot"
