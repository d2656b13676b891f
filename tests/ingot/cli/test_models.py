"""`ingot models` lists the families that the tests cover."""

import json

from typer.testing import CliRunner

from ingot.cli import app
from ingot.models.families import FAMILIES


def test_every_family_is_listed() -> None:
    result = CliRunner().invoke(app, ["models", "--json"])
    assert result.exit_code == 0
    assert [row["name"] for row in json.loads(result.stdout)] == [f.name for f in FAMILIES]


def test_table_has_features() -> None:
    result = CliRunner().invoke(app, ["models"])
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("gemma2 ")]
    assert "softcap" in line
