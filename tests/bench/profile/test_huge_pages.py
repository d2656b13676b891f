"""Of what a process has mapped from a folder, the share in huge pages, as Linux tells it."""

from pathlib import Path

import pytest

from ingot.bench.profile import huge_pages
from ingot.bench.profile.huge_pages import share_in_huge_pages


def test_only_files_of_the_folder_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mapping(path: str, mapped_kb: int, huge_kb: int) -> str:
        return (
            f"7f00-7f10 rw-p 00000000 fe:00 12      {path}\n"
            f"Rss:  {mapped_kb} kB\nPss:  {mapped_kb} kB\nFilePmdMapped:   {huge_kb} kB\n"
        )

    smaps = tmp_path / "smaps"
    smaps.write_text(
        mapping(f"{tmp_path}/a/weights-1", 4096, 2048)
        + mapping(f"{tmp_path}/a/weights-2", 4096, 4096)
        + mapping(f"{tmp_path}/ab/weights-1", 4096, 0)
    )
    monkeypatch.setattr(huge_pages, "SMAPS", smaps)
    assert share_in_huge_pages(tmp_path / "a") == 6144 / 8192
    assert share_in_huge_pages(tmp_path / "none") is None


def test_no_account_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "SMAPS", tmp_path / "absent")
    assert share_in_huge_pages(tmp_path) is None
