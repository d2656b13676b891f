"""A report to a JSON file, its folder made, in the one form that all reports have."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any


def write_json(report: Any, path: Path) -> None:
    """Write a dataclass, or a dict of what JSON holds."""
    record = report if isinstance(report, dict) else dataclasses.asdict(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
