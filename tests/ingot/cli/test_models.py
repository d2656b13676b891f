"""`ingot models` lists the families that the tests cover."""

import json
import subprocess
import sys

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


def test_the_list_needs_no_torch() -> None:
    """So that it works in the base install, and at once."""
    code = "import sys, ingot.models.families; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
