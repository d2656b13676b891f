"""`ingot targets` lists every file of targets/data."""

import json

import pytest
from typer.testing import CliRunner

from ingot.cli import app
from ingot.runtime.artifact import machine
from ingot.targets import Cpu, TargetError, load_targets


@pytest.fixture
def haswell(monkeypatch: pytest.MonkeyPatch) -> None:
    features = load_targets()["cpu:x86-64-v3"].features
    cpu = Cpu("Example", "x86_64", frozenset(features), 2)
    monkeypatch.setattr("ingot.targets.detect_cpu", lambda: cpu)
    monkeypatch.setattr(machine, "CUDA_DRIVER", "libabsent.so.1")


@pytest.mark.usefixtures("haswell")
def test_table_says_what_runs_here() -> None:
    result = CliRunner().invoke(app, ["targets"])
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()[1:]}
    assert set(rows) == set(load_targets())
    assert rows["cpu:x86-64-v3"] == "default"
    assert rows["cpu:x86-64-v4"] == rows["cpu:neoverse-n1"] == "no"
    assert rows["cuda:sm_90"] == "no"
    assert "NVIDIA Hopper (H100, H200); compile-only, no such GPU was met" in result.stdout


@pytest.mark.usefixtures("haswell")
def test_a_gpu_runs_what_finds_room_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = machine.Machine("Linux", "x86_64", frozenset(), "sm_86", block_shared_bytes=101_376)
    monkeypatch.setattr(machine, "detect_machine", lambda: gpu)
    result = CliRunner().invoke(app, ["targets"])
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()[1:]}
    assert [rows[f"cuda:sm_{arch}"] for arch in (80, 86, 89, 90)] == ["no", "yes", "no", "no"]


@pytest.mark.usefixtures("haswell")
def test_json_has_every_field() -> None:
    result = CliRunner().invoke(app, ["targets", "--json"])
    records = {record["name"]: record for record in json.loads(result.stdout)}
    assert records["cpu:x86-64-v3"]["here"] == "default"
    assert records["cuda:sm_90"]["cuda_arch"] == "sm_90"


def test_unknown_cpu_still_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Cpu:
        raise TargetError("no cpuinfo")

    monkeypatch.setattr("ingot.targets.detect_cpu", fail)
    result = CliRunner().invoke(app, ["targets"])
    assert result.exit_code == 0
    assert "default" not in result.stdout
