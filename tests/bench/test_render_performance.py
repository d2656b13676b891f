"""The document's tables are those of the results; what surrounds them is left alone."""

from pathlib import Path
from typing import Any

import pytest

from ingot.bench.limits.record import Limits, write_limits
from ingot.bench.render_performance import (
    DOCUMENTS,
    ratios_table,
    render_document,
    served_sentences,
)
from ingot.errors import IngotError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_documents_are_rendered_from_the_results(document: Path) -> None:
    text = (ROOT / document).read_text("utf-8")
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


def peers(title: str, engines: dict[str, float], batches: tuple[int, ...] = (1,)) -> dict[str, Any]:
    """Engines that read prompts at 10 times the rate at which they write."""
    summaries = [
        {
            "engine": name,
            "case": {"batch": batch, "prompt": 5, "decode": 5},
            "prefill_tokens_per_s": 10 * rate,
            "decode_tokens_per_s": rate,
        }
        for batch in batches
        for name, rate in engines.items()
    ]
    return {"title": title, "summaries": summaries}


def test_ratios_of_several_reports_are_one_table() -> None:
    reports = [
        peers("small", {"other": 10.0, "ingot/w4": 25.0}),
        peers("large", {"ingot": 9.0, "third": 10.0}, batches=(2, 8)),
    ]
    assert ratios_table(reports).splitlines() == [
        "| times as fast, prompt / answer | `other` | `third` |",
        "| --- | ---: | ---: |",
        "| small | 2.5 / 2.5 | – |",
        "| large, batch 2 | – | 0.9 / 0.9 |",
        "| large, batch 8 | – | 0.9 / 0.9 |",
    ]


def test_a_server_is_compared_in_a_sentence() -> None:
    summaries = [
        {"name": "ingot", "first_is_times": 1.0},
        {"name": "other", "first_is_times": 2.81},
        {"name": "third", "first_is_times": 31.2},
    ]
    text = served_sentences([{"shape": {"clients": 32}, "summaries": summaries}])
    assert text == (
        "With 32 clients at once, the rate at which Ingot's server generates tokens is 2.8 times "
        "that of `other` and 31 times that of `third`.\n"
    )


@pytest.mark.parametrize("mark", ["limits none.json", "nothing limits.json"])
def test_a_mark_without_results_is_an_error(mark: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="there are no results|no table is called"):
        render_document(f"<!-- {mark} -->\n<!-- end -->", tmp_path)
