"""The model of an artifact: what its manifest says, or what the user names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingot import source
from ingot.errors import UsageError
from ingot.source import find_source


def made_from(source: str = "demo", revision: str | None = None) -> Any:
    return SimpleNamespace(model=SimpleNamespace(source=source, revision=revision))


def test_source_is_what_the_artifact_says() -> None:
    assert find_source(made_from()).name == "demo"


def test_source_in_a_folder_must_be_named(tmp_path: Path) -> None:
    manifest = made_from(source="mine")
    with pytest.raises(UsageError, match="a folder called mine"):
        find_source(manifest)
    (tmp_path / "config.json").write_text("{}")
    found = find_source(manifest, str(tmp_path), allow_pickle=True)
    assert found.path == tmp_path.resolve()
    assert found.allow_pickle and not found.trust_remote_code


def test_hub_revision_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(source, "resolve_model", lambda *args, **options: asked.append(options))
    find_source(made_from(source="org/name", revision="abc"))
    find_source(made_from(source="org/name", revision="abc"), "another")
    assert [options["revision"] for options in asked] == ["abc", None]
