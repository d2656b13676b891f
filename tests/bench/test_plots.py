import dataclasses
from pathlib import Path

import pytest

from ingot.bench.plots import write_plots
from ingot.bench.report import Report

pytest.importorskip("matplotlib")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_plots_stand_beside_the_report(report: Report, tmp_path: Path) -> None:
    files = write_plots(report, tmp_path / "run.json")
    assert [file.name for file in files] == ["run-decode.png", "run-prefill.png"]
    assert all(file.read_bytes().startswith(PNG_SIGNATURE) for file in files)


def test_nothing_measured_is_no_plot(report: Report, tmp_path: Path) -> None:
    nothing = dataclasses.replace(report, backends=report.backends[2:])
    assert write_plots(nothing, tmp_path / "run.json") == ()
    assert list(tmp_path.iterdir()) == []
