"""An artifact and the model that it came from to a verdict, and to the rewrite at fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ingot.compile.api import compile_model
from ingot.compile.proof import ProofReport, run_proof
from ingot.compile.report import Progress
from ingot.compile.rewrites import QUANTIZE, REWRITE_NAMES
from ingot.errors import ArtifactError
from ingot.models.resolve import ModelSource
from ingot.runtime.artifact import load_artifact, read_manifest, write_manifest


def verify_artifact(
    folder: Path, source: ModelSource, *, progress: Progress | None = None
) -> ProofReport:
    """Check every byte of an artifact, then compare it with the eager model again.

    An artifact that carries no proof yet, or one of an older Ingot, gets this one.
    """
    artifact = load_artifact(folder, verify=True)
    manifest = artifact.manifest
    report = run_proof(artifact, source, progress=progress)
    is_new = manifest.proof.status in ("pending", "unproven")
    if is_new or "kernels" not in manifest.proof.figures:
        try:
            write_manifest(folder, manifest.model_copy(update={"proof": report.record()}))
        except OSError as error:
            raise ArtifactError(f"the proof can't be written: {error.strerror}") from error
    return report


@dataclass(frozen=True, slots=True)
class Trial:
    """The model compiled without one rewrite (without none: the name is empty) and compared."""

    without: str
    report: ProofReport


def bisect_rewrites(
    folder: Path, source: ModelSource, *, progress: Progress | None = None
) -> Iterator[Trial]:
    """Compile the artifact's model again, as it was and then without each rewrite that matched.

    A rewrite is at fault if the model is off with it and right without it.
    """
    manifest = read_manifest(folder)
    ran = {rewrite.name: rewrite.matched for rewrite in manifest.rewrites}
    off = tuple(name for name in REWRITE_NAMES if name not in ran and name != QUANTIZE)
    suspects = [name for name, matched in ran.items() if matched]
    if manifest.scheme.name != "f32" or manifest.scheme.keep:
        suspects.append(QUANTIZE)
    for name in ("", *suspects):
        with TemporaryDirectory(prefix="ingot-bisect-") as scratch:
            result = compile_model(
                str(source.path),
                target=manifest.target.name,
                quant=manifest.scheme.name,
                out=Path(scratch) / "artifact",
                keep=manifest.scheme.keep if name != QUANTIZE else {},
                disable=(*off, name) if name else off,
                max_context_tokens=manifest.step.max_context_tokens,
                trust_remote_code=source.trust_remote_code,
                allow_pickle=source.allow_pickle,
                prove=False,
                progress=progress,
            )
            yield Trial(name, run_proof(load_artifact(result.path), source))
