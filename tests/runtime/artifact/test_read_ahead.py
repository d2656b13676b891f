"""All of every file is asked for, in order, and mapped; nothing stays open."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import numpy as np
import pytest

from ingot.runtime.artifact import read_ahead as module
from ingot.runtime.artifact.read_ahead import map_pages, read_ahead

NOTHING = np.empty(0, np.uint8)


def test_whole_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"first": 10, "empty": 0, "second": 9}
    paths = [tmp_path / name for name in sizes]
    for path in paths:
        path.write_bytes(b"x" * sizes[path.name])
    asked: list[tuple[str, int, int]] = []

    def record(descriptor: int, start: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        asked.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, start, length))

    monkeypatch.setattr(os, "posix_fadvise", record)
    monkeypatch.setattr(module, "REQUEST_BYTES", 4)
    read_ahead(dict.fromkeys(paths, NOTHING)).join()
    assert asked == [("first", 0, 4), ("first", 4, 4), ("first", 8, 4)] + [
        ("second", 0, 4),
        ("second", 4, 4),
        ("second", 8, 4),
    ]
    left = {os.readlink(f"/proc/self/fd/{name}") for name in open_descriptors()}
    assert not left & {str(path) for path in paths}


def open_descriptors() -> list[str]:
    names = os.listdir("/proc/self/fd")
    return [name for name in names if os.path.exists(f"/proc/self/fd/{name}")]


def test_a_missing_file_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_ahead({tmp_path / "absent": NOTHING})


@pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (5, 14),
    reason="Linux 5.14 is the first that maps pages ahead",
)
def test_every_page_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * (3 << 20))
    data = np.memmap(path, np.uint8, mode="c")
    assert mapped_bytes(path) == 0
    monkeypatch.setattr(module, "REQUEST_BYTES", 1 << 20)
    map_pages(data)
    assert mapped_bytes(path) == data.nbytes


def mapped_bytes(path: Path) -> int:
    """How much of a mapped file has pages in this process."""
    smaps = Path("/proc/self/smaps").read_text()
    [found] = re.findall(rf"{re.escape(str(path))}\n(?:.*\n)*?Rss: +(\d+) kB", smaps)
    return int(found) * 1024
