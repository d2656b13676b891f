"""Figures of a level from made-up records."""

import json
from pathlib import Path

import pytest

from ingot.bench.machine import describe_machine
from ingot.bench.serve.client import Record
from ingot.bench.serve.load import Load
from ingot.bench.serve.plots import write_plot
from ingot.bench.serve.report import (
    Level,
    ServeReport,
    ServeSettings,
    Slo,
    percentiles,
    summarize,
    write_report,
)
from ingot.bench.serve.table import render_report

SLO = Slo(ttft_s=1.0, tpot_s=0.1)
RECORDS = [
    Record("done", 0.0, 0.0, 2.0, (0.5, 0.6, 0.7), 10, 3),  # good
    Record("done", 0.0, 0.2, 4.0, (1.5, 1.6), 10, 2),  # first token late
    Record("done", 1.0, 1.0, 3.0, (1.5, 2.5), 10, 2),  # slow after it
    Record("done", 1.0, 1.0, 3.0, (1.5,), 10, 1),  # good: one token has no rate
    Record("cancelled", 0.0, 0.0, 1.0, (0.5, 0.6), 0, 2),
    Record("refused", 0.0, 0.0, 0.1, error="429: full"),
    Record("failed", 0.0, 0.0, 0.1, error="500: no"),
]


def make_level(load: Load) -> Level:
    return summarize(load, RECORDS, SLO)


def test_figures_of_a_level() -> None:
    level = make_level(Load(7, rate=3.0))
    assert level.duration_s == 4.0
    counts = (level.num_done, level.num_cancelled, level.num_refused, level.num_failed)
    assert counts == (4, 1, 1, 1)
    assert level.output_tokens_per_s == 10 / 4
    assert level.prompt_tokens_per_s == 40 / 4
    assert level.requests_per_s == 1.0
    assert (level.goodput, level.good_share) == (2 / 4, 2 / 6)
    assert level.ttft_s is not None and level.ttft_s.count == 4
    assert level.ttft_s.p50 == 0.5 and level.ttft_s.max == 1.5
    assert level.tpot_s is not None and level.tpot_s.count == 3
    assert level.itl_s is not None and level.itl_s.count == 4
    assert level.itl_s.max == pytest.approx(1.0)
    assert level.lateness_s is not None and level.lateness_s.max == 0.2
    assert dict(level.errors) == {"429: full": 1, "500: no": 1}


def test_percentiles_of_nothing_and_of_one() -> None:
    assert percentiles([]) is None and percentiles([None]) is None
    one = percentiles([2.0, None])
    assert one is not None and (one.p50, one.p99, one.count) == (2.0, 2.0, 1)


def test_report_as_table_json_and_plot(tmp_path: Path) -> None:
    from rich.console import Console

    settings = ServeSettings(
        "http://x", "demo", "completions", "128", "64", 10, 1, 0.1, 0, SLO, 0, 0.5, {}
    )
    loads = (Load(7, concurrency=1), Load(7, concurrency=4), Load(7, rate=3.0))
    levels = tuple(make_level(load) for load in loads)
    report = ServeReport("now", "ingot bench serve", settings, describe_machine(), levels)
    console = Console(width=180)
    with console.capture() as capture:
        console.print(render_report(report))
    text = capture.get()
    assert "3 requests/s" in text and "4 clients" in text
    assert "1 times 429: full" in text
    assert "itself too slow" in text  # one request was sent 200 ms late
    write_report(report, tmp_path / "a" / "load.json")
    read = json.loads((tmp_path / "a" / "load.json").read_text())
    assert read["levels"][1]["load"]["concurrency"] == 4
    write_plot(report, tmp_path / "load.png")
    assert (tmp_path / "load.png").stat().st_size > 10_000
