"""Turns an artifact's folder into a manifest and mapped weights, or says why it can't be used.

Checks run in this order: version, target, sizes, hashes. Weights are hashed only when asked
(`verify=True`): reading gigabytes would undo what mapping them saves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ingot.errors import ArtifactCorruptError, ArtifactError, ArtifactVersionError
from ingot.runtime.artifact.machine import Machine, check_target, detect_machine
from ingot.runtime.artifact.manifest import CODE_NAME, Manifest, hash_file, read_manifest
from ingot.runtime.artifact.read_ahead import map_file
from ingot.runtime.artifact.weights_file import map_weights


@dataclass(frozen=True, slots=True)
class Artifact:
    """A checked artifact. `weights` are views of the mapped files, in the step's order."""

    path: Path
    manifest: Manifest
    weights: tuple[NDArray[Any], ...]

    @property
    def code_path(self) -> Path:
        return self.path / CODE_NAME


def load_artifact(
    path: str | Path, *, verify: bool = False, machine: Machine | None = None
) -> Artifact:
    """Open an artifact. `verify` hashes the weights too; `machine` is by default this one."""
    folder = Path(path).expanduser().resolve()
    try:
        manifest = read_manifest(folder)
        check_tvm_version(manifest, metadata.version("apache-tvm"))
        check_target(manifest.target, machine or detect_machine(), manifest.kernels)
        check_sizes(folder, manifest)
        check_hashes(folder, manifest, with_weights=verify)
        return Artifact(folder, manifest, tuple(map_weights(folder, manifest.weights)))
    except OSError as error:
        raise ArtifactError(f"{error.filename} can't be read: {error.strerror}") from error


def check_tvm_version(manifest: Manifest, installed: str) -> None:
    """The code calls into TVM's runtime, whose ABI holds within a minor version."""
    built = manifest.versions.get("apache-tvm", "")
    if built.split(".")[:2] != installed.split(".")[:2]:
        raise ArtifactVersionError(
            f"the artifact was built with apache-tvm {built or '(unknown)'}, "
            f"and {installed} is installed",
            hint="compile the model again, or install the version that built it",
        )


def check_sizes(folder: Path, manifest: Manifest) -> None:
    listed = {file.path for file in manifest.files}
    needed = {CODE_NAME} | {weight.file for weight in manifest.weights}
    if needed - listed:
        raise ArtifactCorruptError(f"the manifest does not list {min(needed - listed)}")
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file():
            raise ArtifactCorruptError(f"the artifact's file {path} is missing")
        size = path.stat().st_size
        if size != file.bytes:
            raise ArtifactCorruptError(f"{path} has {size} bytes; the manifest says {file.bytes}")


def check_hashes(folder: Path, manifest: Manifest, *, with_weights: bool) -> None:
    weight_files = {weight.file for weight in manifest.weights}
    for file in manifest.files:
        path = folder / file.path
        if file.path not in weight_files:
            found = hash_file(path)
        elif with_weights:
            found = hashlib.sha256(
                map_file(path).data
            ).hexdigest()  # which caches it as steps want it
        else:
            continue
        if found != file.sha256:
            culprit = _altered_tensor(folder, manifest, file.path)
            raise ArtifactCorruptError(f"{path} was altered{culprit}")


def _altered_tensor(folder: Path, manifest: Manifest, name: str) -> str:
    """Name the first tensor of a file that is not as it was written, if it is a tensor."""
    with (folder / name).open("rb") as stream:
        for weight in (w for w in manifest.weights if w.file == name):
            stream.seek(weight.offset)
            if hashlib.sha256(stream.read(weight.bytes)).hexdigest() != weight.sha256:
                return f": the tensor {weight.name} is not what was written"
    return ""
