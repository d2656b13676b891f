"""The artifact: its manifest, its weights files, and the checks before it is used."""

from ingot.runtime.artifact.artifact import Artifact, load_artifact
from ingot.runtime.artifact.machine import Machine, detect_machine
from ingot.runtime.artifact.manifest import Manifest, read_manifest, write_manifest
from ingot.runtime.artifact.weights_file import TensorSpec, WeightsWriter

__all__ = [
    "Artifact",
    "Machine",
    "Manifest",
    "TensorSpec",
    "WeightsWriter",
    "detect_machine",
    "load_artifact",
    "read_manifest",
    "write_manifest",
]
