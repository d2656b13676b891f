"""Reports of either kind become the same file, in a folder that is made."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingot.bench.json_file import write_json


@dataclass
class Report:
    name: str
    figures: tuple[int, ...]


@pytest.mark.parametrize("report", [Report("a", (1, 2)), {"name": "a", "figures": [1, 2]}])
def test_a_report_is_written(report: object, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.json"
    write_json(report, path)
    assert json.loads(path.read_text()) == {"name": "a", "figures": [1, 2]}
    assert path.read_text().endswith("}\n")
