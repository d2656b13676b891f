"""Limits go to JSON and back, and answer which of them holds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ingot.bench.limits.record import Limits, read_limits, stored_limits, stored_path, write_limits
from ingot.bench.limits.table import render_limits
from ingot.errors import IngotError


def test_round_trip(limits: Limits, tmp_path: Path) -> None:
    write_limits(limits, tmp_path / "deep" / "limits.json")
    assert read_limits(tmp_path / "deep" / "limits.json") == limits


def test_kept_by_cpu_and_threads(
    limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert stored_limits(2) is None
    write_limits(limits, stored_path(2))
    assert stored_path(2).parent == tmp_path / "ingot"
    assert stored_limits(2) == limits
    assert stored_limits(3) is None


def test_the_peak_is_of_the_code_and_not_of_the_machine(limits: Limits) -> None:
    assert limits.peak("float32", ("avx2", "avx512f")).best == 200e9
    assert limits.peak("float32", ("avx2",)).best == 100e9
    assert limits.peak("int8", ("avx2", "avx512f", "avx512_vnni")).best == 800e9
    with pytest.raises(IngotError, match="no bfloat16 peak"):
        limits.peak("bfloat16", ("avx2",))


def test_bytes_come_from_the_cache_that_holds_them(limits: Limits) -> None:
    assert limits.read_bandwidth(limits.l2_bytes / 4).name == "l2 read"
    assert limits.read_bandwidth(limits.l3_bytes / 4).name == "l3 read"
    assert limits.read_bandwidth(limits.l3_bytes).name == "memory read"


def test_reads_at_another_time_take_the_place_of_the_bandwidth(limits: Limits) -> None:
    found = limits.with_memory_reads([3e9, 1e9, 2e9])
    read = found.figure("memory read")
    assert (read.best, read.median, read.count) == (2e9, 2e9, 3)
    assert len(found.figures) == len(limits.figures)
    assert found.figure("l3 read") == limits.figure("l3 read")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1}'])
def test_another_file_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text(text)
    with pytest.raises(IngotError, match="holds no limits"):
        read_limits(path)


def test_another_schema_is_an_error(limits: Limits, tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    write_limits(replace(limits, schema_version=99), path)
    with pytest.raises(IngotError, match="schema 99"):
        read_limits(path)
    assert json.loads(path.read_text())["threads"] == 2


def test_the_table_has_every_figure(limits: Limits) -> None:
    from rich.console import Console

    console = Console(width=140)
    with console.capture() as capture:
        console.print(render_limits(limits))
    text = capture.get()
    assert "20 GB/s" in text and "800 Gop/s" in text and "5 µs" in text
