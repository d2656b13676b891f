"""Which limits a profile is set beside."""

from dataclasses import replace
from pathlib import Path

import pytest

from ingot.bench.limits import obtain
from ingot.bench.limits.record import Limits, stored_limits, stored_path, write_limits
from ingot.errors import IngotError


def test_a_file_is_taken_as_it_is(limits: Limits, tmp_path: Path, user_cache: Path) -> None:
    write_limits(limits, tmp_path / "mine.json")
    assert obtain.obtain_limits(2, tmp_path / "mine.json") == limits
    assert not user_cache.exists()


def test_measured_now_and_kept(
    limits: Limits, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = replace(limits, created="2020-01-01T00:00:00+00:00")
    write_limits(older, stored_path(2))
    monkeypatch.setattr("ingot.bench.limits.measure.measure_limits", lambda *_: limits)
    assert obtain.obtain_limits(2, kept=True) == older
    assert obtain.obtain_limits(2) == limits
    assert stored_limits(2) == limits


def test_where_they_can_not_be_measured(
    limits: Limits, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obtain, "can_measure", lambda: False)
    with pytest.raises(IngotError, match="no limits of this machine with 2 threads") as error:
        obtain.obtain_limits(2)
    assert "ingot[compile,bench]" in error.value.hint
    write_limits(limits, stored_path(2))
    assert obtain.obtain_limits(2) == limits
