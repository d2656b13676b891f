"""Tables are aligned text that programs can still read; sizes are readable."""

import pytest

from ingot.cli.output import format_bytes, format_cell, print_fields, print_table


def test_table_in_a_pipe_is_never_folded(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 200
    print_table(("name", "count"), [(long, 1), ("[b]", 20)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"name{' ' * 196}  count", f"{long}      1", f"[b]{' ' * 197}     20"]


def test_empty_table_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "count"), [])
    assert capsys.readouterr().out == "name  count\n"


def test_fields(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"a": 1, "long": None})
    assert capsys.readouterr().out == "a     1\nlong  -\n"


@pytest.mark.parametrize(
    ("value", "text"), [(True, "yes"), (False, "no"), (None, "-"), (0.123456, "0.1235"), (7, "7")]
)
def test_cell(value: object, text: str) -> None:
    assert format_cell(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5e12, "5.0 TB")],
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text
