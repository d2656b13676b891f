"""An artifact is there whole or not at all, whatever stops its making."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from ingot.compile.artifact_writer import ArtifactFolder
from ingot.errors import CompileError, UsageError

MANIFEST = "manifest.json"


def write(folder: ArtifactFolder, text: str = "new") -> None:
    (folder.path / MANIFEST).write_text(text)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def old_artifact(out: Path) -> Path:
    out.mkdir()
    (out / MANIFEST).write_text("old")
    (out / "model.so").write_text("old code")
    return out


def test_committed(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    with ArtifactFolder(out, force=False) as folder:
        assert folder.path.parent == out.parent and not out.exists()
        write(folder)
        folder.commit()
    assert listing(out.parent) == ["out"]
    assert (out / MANIFEST).read_text() == "new"
    assert out.stat().st_mode & 0o777 == 0o755


def test_not_committed(tmp_path: Path) -> None:
    with ArtifactFolder(tmp_path / "out", force=False) as folder:
        write(folder)
    assert listing(tmp_path) == []


def test_existing(tmp_path: Path) -> None:
    out = old_artifact(tmp_path / "out")
    with pytest.raises(UsageError, match="the artifact .*out exists already") as error:
        ArtifactFolder(out, force=False)
    assert "--force replaces it" in error.value.hint


def test_force_replaces_an_artifact(tmp_path: Path) -> None:
    out = old_artifact(tmp_path / "out")
    with ArtifactFolder(out, force=True) as folder:
        write(folder)
        assert (out / MANIFEST).read_text() == "old"
        folder.commit()
    assert listing(tmp_path) == ["out"]
    assert listing(out) == [MANIFEST] and (out / MANIFEST).read_text() == "new"


def test_force_replaces_a_link_and_not_what_it_points_at(tmp_path: Path) -> None:
    real = old_artifact(tmp_path / "real")
    out = tmp_path / "out"
    out.symlink_to(real)
    with ArtifactFolder(out, force=True) as folder:
        write(folder)
        folder.commit()
    assert not out.is_symlink() and (out / MANIFEST).read_text() == "new"
    assert (real / MANIFEST).read_text() == "old"


def test_failure_keeps_what_was_there(tmp_path: Path) -> None:
    out = old_artifact(tmp_path / "out")
    with pytest.raises(RuntimeError), ArtifactFolder(out, force=True) as folder:
        write(folder)
        raise RuntimeError("a stage failed")
    assert listing(tmp_path) == ["out"]
    assert listing(out) == [MANIFEST, "model.so"] and (out / MANIFEST).read_text() == "old"


def test_failed_rename_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = old_artifact(tmp_path / "out")
    rename = os.rename

    def refuse(source: Path, destination: Path) -> None:
        if Path(destination) == out and (Path(source) / MANIFEST).read_text() == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, destination)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(CompileError, match="can't write the artifact .*Input/output error"):
        with ArtifactFolder(out, force=True) as folder:
            write(folder)
            folder.commit()
    assert listing(tmp_path) == ["out"]
    assert (out / MANIFEST).read_text() == "old"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_force_replaces_nothing_but_artifacts(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "thesis.tex").touch()
    else:
        out.touch()
    for force in (True, False):
        with pytest.raises(UsageError, match="exists already and is no artifact"):
            ArtifactFolder(out, force=force)
    assert out.exists()


def test_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ArtifactFolder(tmp_path / "out", force=False) as folder:
        write(folder)
        signal.raise_signal(signal.SIGINT)
    assert listing(tmp_path) == []


def test_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CompileError, match="can't write to .*file"):
        with ArtifactFolder(tmp_path / "file" / "out", force=False):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_parent(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CompileError, match="can't write to .*Permission denied"):
        with ArtifactFolder(tmp_path / "out", force=False):
            pass


def test_unwritable_parent_as_anyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(CompileError, match="can't write to .*Read-only file system"):
        with ArtifactFolder(tmp_path / "out", force=False):
            pass


def test_full_disk(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="can't write the artifact .*No space left on device"):
        with ArtifactFolder(tmp_path / "out", force=False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert listing(tmp_path) == []


def test_what_is_not_about_the_disk_stays_itself(tmp_path: Path) -> None:
    """transformers raises bare OSErrors about models."""
    with pytest.raises(OSError, match="no such model"):
        with ArtifactFolder(tmp_path / "out", force=False):
            raise OSError("no such model")
    assert listing(tmp_path) == []
