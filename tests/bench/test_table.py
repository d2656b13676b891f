import dataclasses

import pytest
from rich.console import Console

from ingot.bench.prompts import Case
from ingot.bench.report import Prediction, Report, Spread
from ingot.bench.table import milliseconds, render_report


def show(report: Report) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(render_report(report))
    return capture.get()


def test_every_backend_and_case_has_its_row(report: Report) -> None:
    shown = show(report)
    assert "onnxruntime is unavailable: onnxruntime isn't installed" in shown
    rows = [line.split("│")[1:-1] for line in shown.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert ["onnxruntime", "unavailable", "", "", "", "", ""] in cells
    assert ["fast", "measured", "1.5 s", "2.50 s", "2.50 s", "123 MB", "4 of 8"] in cells
    fast = next(row for row in cells if row[:3] == ["128", "4", "fast"])
    assert fast[4:] == ["10.0 ± 0.0", "960", "1.00", "400.0", "2.00", "75%"]
    assert sum(len(row) == 10 for row in cells) == 8


def test_predicted_stands_beside_measured(report: Report) -> None:
    assert "predicted" not in show(report)
    fast = dataclasses.replace(report.backends[1], name="compiled")
    assert fast.status == "measured"
    predictions = (Prediction(Case(128, 4), 0.1, 0.008),)
    shown = show(dataclasses.replace(report, backends=(fast,), predictions=predictions))
    row = next(line for line in shown[shown.index("predicted") :].splitlines() if "128" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[:3] == ["128", "4", "100"] and cells[5:] == ["8", "10", "80%"]


def test_busy_machine_is_told(report: Report) -> None:
    assert "busy" not in show(report)
    busy = dataclasses.replace(report.machine, load_average=9.5)
    shown = show(dataclasses.replace(report, machine=busy))
    assert "The machine was busy before the run (load 9.5 on 4 cores)" in shown


def test_nothing_measured(report: Report) -> None:
    shown = show(dataclasses.replace(report, backends=report.backends[2:]))
    assert "nothing was measured" in shown


@pytest.mark.parametrize(
    ("median_s", "shown"),
    [
        (0.0001234, "0.123 ± 0.005"),
        (0.00123, "1.23 ± 0.01"),
        (0.0123, "12.3 ± 0.0"),
        (0.123, "123 ± 0"),
        (12.3456, "12,346 ± 0"),
    ],
)
def test_milliseconds_have_three_digits(median_s: float, shown: str) -> None:
    assert milliseconds(Spread(median_s, 0.0, 1e-5, 4)) == shown
