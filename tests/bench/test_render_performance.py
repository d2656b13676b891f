"""The document's tables are those of the results; what surrounds them is left alone."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ingot.bench.limits.record import Limits, write_limits
from ingot.bench.render_performance import compare_table, render_document
from ingot.bench.report import Report
from ingot.errors import IngotError

ROOT = Path(__file__).resolve().parents[2]


def test_the_document_is_rendered_from_the_results() -> None:
    text = (ROOT / "docs/performance.md").read_text("utf-8")
    assert render_document(text, ROOT / "bench/results") == text, (
        "run python -m ingot.bench.render_performance"
    )


def test_only_marked_places_change(limits: Limits, tmp_path: Path) -> None:
    write_limits(limits, tmp_path / "limits.json")
    text = "before\n\n<!-- limits limits.json -->\nold\n<!-- end -->\n\nafter\n"
    once = render_document(text, tmp_path)
    assert once.startswith("before\n") and once.endswith("\nafter\n")
    assert "old" not in once
    assert "| memory read | 20 GB/s | 20 GB/s | so |" in once
    assert render_document(once, tmp_path) == once


def test_a_pattern_stands_for_all_files_that_it_matches(limits: Limits, tmp_path: Path) -> None:
    for name in ("limits-a.json", "limits-b.json"):
        write_limits(limits, tmp_path / name)
    text = render_document("<!-- limits limits-*.json -->\n<!-- end -->\n", tmp_path)
    assert text.count("| memory read |") == 2
    assert render_document(text, tmp_path) == text


def test_a_comparison_has_a_row_for_each_backend_and_case(report: Report) -> None:
    content = json.loads(json.dumps(asdict(report)))
    lines = compare_table(content).splitlines()
    cases = sum(len(backend.cases) for backend in report.backends)
    assert sum(line.startswith("| `") for line in lines) == cases


@pytest.mark.parametrize("mark", ["limits none.json", "nothing limits.json"])
def test_a_mark_without_results_is_an_error(mark: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="has no results|no table is called"):
        render_document(f"<!-- {mark} -->\n<!-- end -->", tmp_path)
