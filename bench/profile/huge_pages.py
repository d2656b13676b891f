"""Turns the system's account of a process's memory into the share that is in huge pages."""

from __future__ import annotations

import re
from pathlib import Path

SMAPS = Path("/proc/self/smaps")


def share_in_huge_pages(folder: Path) -> float | None:
    """Of all that is mapped from files in `folder`; None where nothing is, or nobody tells."""
    if not SMAPS.exists():
        return None
    mapped = huge = 0
    of_folder = False
    for line in SMAPS.read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            of_folder = f" {folder.resolve()}/" in line
        elif of_folder and (found := re.match(r"(Rss|FilePmdMapped): +(\d+) kB", line)):
            if found[1] == "Rss":
                mapped += int(found[2])
            else:
                huge += int(found[2])
    return huge / mapped if mapped else None
