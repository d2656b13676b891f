"""Bars on a terminal, lines elsewhere."""

import pytest

from ingot.cli.progress import show_progress, show_upload


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what Rich takes for a terminal
    monkeypatch.setenv("COLUMNS", "100")


def test_a_line_where_a_stage_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as report:
        for done in range(2):
            report("capture", done, 1)
    assert capsys.readouterr().err == "capture: done\n"


@pytest.mark.usefixtures("terminal")
def test_bytes_on_their_way(capsys: pytest.CaptureFixture[str]) -> None:
    with show_upload() as sent:
        sent(1_000_000, 4_000_000)
        sent(4_000_000, 4_000_000)
    shown = capsys.readouterr().err
    assert "weights" in shown and "4.0/4.0 MB" in shown


@pytest.mark.usefixtures("terminal")
def test_no_bar_where_nothing_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with show_upload():
        pass
    assert "weights" not in capsys.readouterr().err


def test_no_bar_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with show_upload() as sent:
        sent(1, 2)
    assert capsys.readouterr().err == ""
