"""Loading checks version, target, sizes and hashes, in that order."""

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingot.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactTargetError,
    ArtifactVersionError,
)
from ingot.runtime.artifact import Machine, load_artifact, read_manifest, write_manifest

WEIGHTS = "weights-00001.safetensors"


@pytest.fixture
def folder(toy_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "artifact"
    shutil.copytree(toy_folder, copy)
    return copy


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the manifest and hash it anew, as another compiler would have written it."""
    write_manifest(folder, read_manifest(folder).model_copy(update=changes))


def flip_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_loads(folder: Path, toy: ModuleType, any_machine: Machine) -> None:
    artifact = load_artifact(str(folder), verify=True, machine=any_machine)
    assert artifact.code_path == folder / "model.so"
    np.testing.assert_array_equal(artifact.weights[0], toy.toy_weights())


def test_another_tvm(folder: Path, any_machine: Machine) -> None:
    rewrite(folder, versions={"apache-tvm": "0.26.1"})
    with pytest.raises(ArtifactVersionError, match=r"built with apache-tvm 0\.26\.1"):
        load_artifact(folder, machine=any_machine)


def test_another_machine(folder: Path) -> None:
    with pytest.raises(ArtifactTargetError, match="avx2, fma, f16c"):
        load_artifact(folder, machine=Machine("Linux", "x86_64", frozenset()))


def test_a_gpu_artifact_on_a_cpu(folder: Path, any_machine: Machine) -> None:
    target = read_manifest(folder).target.model_copy(update={"kind": "cuda", "cuda_arch": "sm_90"})
    rewrite(folder, target=target)
    with pytest.raises(ArtifactTargetError, match="needs an NVIDIA GPU"):
        load_artifact(folder, machine=any_machine)


@pytest.mark.parametrize("name", [WEIGHTS, "model.so", "tokenizer.json"])
def test_missing_file(folder: Path, any_machine: Machine, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactCorruptError, match=f"{name} is missing"):
        load_artifact(folder, machine=any_machine)


def test_unlisted_file(folder: Path, any_machine: Machine) -> None:
    files = read_manifest(folder).files
    rewrite(folder, files=tuple(file for file in files if file.path != "model.so"))
    with pytest.raises(ArtifactCorruptError, match=r"does not list model\.so"):
        load_artifact(folder, machine=any_machine)


@pytest.mark.parametrize("name", [WEIGHTS, "model.so"])
def test_truncated_file(folder: Path, any_machine: Machine, name: str) -> None:
    path = folder / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactCorruptError, match=f"{size - 1} bytes; the manifest says {size}"):
        load_artifact(folder, machine=any_machine)


@pytest.mark.parametrize("name", ["model.so", "tokenizer.json"])
def test_altered_file(folder: Path, any_machine: Machine, name: str) -> None:
    flip_byte(folder / name, 100)
    with pytest.raises(ArtifactCorruptError, match=f"{name} was altered"):
        load_artifact(folder, machine=any_machine)


def test_altered_weights_show_when_asked(folder: Path, any_machine: Machine) -> None:
    flip_byte(folder / WEIGHTS, read_manifest(folder).weights[0].offset + 5)
    load_artifact(folder, machine=any_machine)
    with pytest.raises(ArtifactCorruptError, match="the tensor E is not what was written"):
        load_artifact(folder, verify=True, machine=any_machine)


def test_unreadable_file(folder: Path, any_machine: Machine) -> None:
    path = folder / "manifest.json"
    path.unlink()
    path.symlink_to(path.name)  # a loop: not even the administrator can read it
    with pytest.raises(ArtifactError, match=r"manifest\.json can't be read: Too many levels"):
        load_artifact(folder, machine=any_machine)


def test_altered_manifest(folder: Path, any_machine: Machine) -> None:
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    record["step"]["max_context_tokens"] *= 2
    path.write_text(json.dumps(record))
    with pytest.raises(ArtifactCorruptError, match="altered"):
        load_artifact(folder, machine=any_machine)


def test_version_comes_before_target_and_target_before_size(folder: Path) -> None:
    nowhere = Machine("Linux", "x86_64", frozenset())
    (folder / "model.so").unlink()
    with pytest.raises(ArtifactTargetError):
        load_artifact(folder, machine=nowhere)
    rewrite(folder, versions={})
    with pytest.raises(ArtifactVersionError, match="unknown"):
        load_artifact(folder, machine=nowhere)
