"""Files are mapped privately, and every page of them is in memory after a while."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingot.runtime.artifact.read_ahead import map_file, read_ahead


def test_what_is_written_stays_in_the_process(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    data = map_file(path)
    data[1] = ord("x")
    assert bytes(data) == b"axc"
    assert path.read_bytes() == b"abc"


def test_a_missing_file_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        map_file(tmp_path / "absent")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="no smaps to look at")
def test_every_page_of_every_file_is_mapped(tmp_path: Path) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        path.write_bytes(b"x" * (3 << 20))
    files = [map_file(path) for path in paths]
    assert [mapped_bytes(path) for path in paths] == [0, 0]
    read_ahead(files).join()
    assert [mapped_bytes(path) for path in paths] == [data.nbytes for data in files]


def mapped_bytes(path: Path) -> int:
    """How much of a mapped file has pages in this process."""
    smaps = Path("/proc/self/smaps").read_text()
    [found] = re.findall(rf"{re.escape(str(path))}\n(?:.*\n)*?Rss: +(\d+) kB", smaps)
    return int(found) * 1024
