"""A command of its own ends as `ingot` does."""

import sys
from typing import Annotated

import pytest
import typer

from ingot.bench.command import run_command
from ingot.errors import IngotError, UsageError


@pytest.mark.parametrize(("kind", "status"), [(UsageError, 2), (IngotError, 1)])
def test_what_is_wrong_is_a_sentence(
    kind: type[IngotError],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main(name: Annotated[str, typer.Argument()]) -> None:
        raise kind(f"{name} is wrong", "take another")

    monkeypatch.setattr(sys, "argv", ["command", "this"])
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == status
    assert capsys.readouterr().err == "Error: this is wrong\n\nhint: take another\n"
