"""The manifest is the same bytes each time, and anything odd in it is one clear error."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ingot.errors import ArtifactCorruptError, ArtifactError, ArtifactVersionError
from ingot.runtime.artifact.manifest import (
    Manifest,
    describe_files,
    format_manifest,
    parse_manifest,
    read_manifest,
    write_manifest,
)

WHERE = Path("manifest.json")


@pytest.fixture
def manifest(toy: ModuleType) -> Manifest:
    return toy.toy_manifest(versions={"apache-tvm": "0.27.0"})


def change(manifest: Manifest, **changes: Any) -> str:
    """The manifest's text with fields changed and the hash left as it was."""
    return json.dumps({**json.loads(format_manifest(manifest)), **changes})


def test_round_trip(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_bytes_are_pinned(manifest: Manifest) -> None:
    text = format_manifest(manifest)
    assert text == format_manifest(parse_manifest(text, WHERE))
    lines = text.splitlines()
    assert lines[1] == ' "schema_version": 2,' and lines[2].startswith(' "sha256"')
    first = [line for line in lines if line.startswith(' "')]
    assert [line.split('"')[1] for line in first[2:]] == list(manifest.model_dump())[1:]
    assert list(json.loads(text)["model"]) == sorted(json.loads(text)["model"])
    pinned = "a26f94138cd391db31a99840105d2a53b8abcd473fa6d561d0b9ca4e8db83943"
    assert json.loads(text)["sha256"] == pinned, "the form changed: raise SCHEMA_VERSION"


def test_config_keeps_its_characters(toy: ModuleType, tmp_path: Path) -> None:
    model = {**toy.toy_manifest().model.model_dump(), "config": {"name": "é ☃", "x": [1, None]}}
    write_manifest(tmp_path, toy.toy_manifest(model=model))
    assert "é ☃" in (tmp_path / "manifest.json").read_text("utf-8")
    assert read_manifest(tmp_path).model.config == {"name": "é ☃", "x": [1, None]}


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, True])
def test_other_schema(manifest: Manifest, version: object) -> None:
    with pytest.raises(ArtifactVersionError, match=f"schema version {version!r}.*reads version 2"):
        parse_manifest(change(manifest, schema_version=version), WHERE)


def test_version_is_checked_before_fields() -> None:
    with pytest.raises(ArtifactVersionError):
        parse_manifest('{"schema_version": 9, "strange": 1}', WHERE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strange": 1}, "strange: this version of Ingot knows"),
        ({"target": {}}, "target.name: the field is missing"),
        ({"kv_slots": [{"kv_heads": 0}]}, "kv_slots.0.kv_heads"),
        ({"ingot_version": "0.2"}, "altered"),
        ({"sha256": "0" * 64}, "altered"),
    ],
)
def test_altered_fields(manifest: Manifest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactCorruptError, match=message):
        parse_manifest(change(manifest, **changes), WHERE)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "", "..\\b"])
def test_paths_stay_inside(manifest: Manifest, path: str) -> None:
    files = [{"path": path, "bytes": 1, "sha256": "0" * 64}]
    with pytest.raises(ArtifactCorruptError, match="not a path inside the artifact"):
        parse_manifest(change(manifest, files=files), WHERE)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"a"'])
def test_not_json(text: str) -> None:
    with pytest.raises(ArtifactCorruptError):
        parse_manifest(text, WHERE)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no artifact at"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        read_manifest(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="is a file; an artifact is a folder"):
        read_manifest(tmp_path / "file")
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactCorruptError, match="UTF-8"):
        read_manifest(tmp_path)


def test_describe_files_is_sorted(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"22")
    (tmp_path / "a").write_bytes(b"")
    records = describe_files(tmp_path, ["b", "a"])
    assert [(record.path, record.bytes) for record in records] == [("a", 0), ("b", 2)]
    assert records[0].sha256.startswith("e3b0c442")  # sha256 of nothing
