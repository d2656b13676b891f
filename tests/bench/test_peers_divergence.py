"""How far logits are from others, on which text, and that ours go through the whole command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ingot.bench.peers import divergence
from ingot.bench.peers.ingot_logits import open_engine
from ingot.bench.peers.measure import Job
from ingot.bench.render_performance import divergence_table
from ingot.errors import UsageError

WINDOWS = np.array([[0, 1, 2], [2, 1, 0]])


def test_equal_logits_do_not_diverge_whatever_their_offset() -> None:
    logits = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    same = divergence.diverge(logits, logits + 7, WINDOWS)
    assert same.mean == pytest.approx(0, abs=1e-6)
    assert same.same_top_token == 1


def test_figures_of_a_case_worked_out_by_hand() -> None:
    """Half and half against three quarters and a quarter, at every place."""
    reference = np.zeros((2, 3, 2), np.float32)
    logits = np.broadcast_to(np.log(np.array([0.25, 0.75], np.float32)), (2, 3, 2))
    got = divergence.diverge(reference, logits, np.array([[0, 1, 1], [1, 1, 1]]))
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert got.mean == pytest.approx(expected, rel=1e-6)
    assert got.median == got.p99 == pytest.approx(expected, rel=1e-6)
    assert got.standard_error == pytest.approx(0, abs=1e-9)
    assert got.same_top_token == 0
    assert got.perplexity == pytest.approx(1 / 0.75, rel=1e-6)


def test_our_artifact_is_compared_and_rendered(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny model stands for the demo: the text and the float32 model are replaced."""
    windows = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]])
    out = tmp_path / "report.json"
    asked = []

    def uniform(windows: np.ndarray) -> np.ndarray:
        asked.append(windows)
        return np.zeros((*windows.shape, vocabulary), np.float32)

    manifest = json.loads((tiny_artifact / "manifest.json").read_text("utf-8"))
    vocabulary = manifest["step"]["vocab_size"]
    monkeypatch.setattr(divergence, "held_out_windows", lambda tokens, per_file: windows)
    monkeypatch.setattr(divergence, "eager_logits", uniform)
    monkeypatch.setattr(sys, "argv", ["divergence", f"ingot/f32={tiny_artifact}"])
    divergence.main([f"ingot/f32={tiny_artifact}"], tokens=8, threads=1, out=out)
    report = json.loads(out.read_text())
    assert len(asked) == 1
    assert [form["form"] for form in report["forms"]] == ["eager/f32", "ingot/f32"]
    assert str(tmp_path) not in report["command"] and "ingot/f32=PATH" in report["command"]
    assert report["forms"][1]["mean"] > 0
    assert divergence_table(report).count("| `") == 2


def test_logits_outlive_the_next_window(tiny_artifact: Path) -> None:
    """What an executor gives lies where its next call writes."""
    logits_of = open_engine(
        Job(tiny_artifact, threads=1, batch=1, prompt=4, decode=0, dtype="auto")
    )
    first = logits_of([3, 1, 4, 1])
    kept = first.copy()
    assert not np.array_equal(logits_of([2, 7, 1, 8]), kept)
    np.testing.assert_array_equal(first, kept)


def test_held_out_text_is_cut_into_whole_windows() -> None:
    with pytest.raises(UsageError, match="no held-out file has 10000000 tokens"):
        divergence.held_out_windows(10_000_000, 1)
