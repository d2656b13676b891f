"""A model's name to an artifact on disk, with its proof: what `ingot compile` calls."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ingot.compile.report import CompileReport, Observer, Progress
from ingot.compile.schemes import SCHEMES, scheme_for
from ingot.errors import ArtifactTargetError, UsageError
from ingot.runtime.artifact.machine import check_target, detect_machine, resolve_target_here
from ingot.runtime.artifact.manifest import (
    CODE_NAME,
    Manifest,
    ProofRecord,
    write_manifest,
)
from ingot.targets import Target
from ingot.targets.tuned import describe_tuning, find_tuning, with_tuning


@dataclass(frozen=True, slots=True)
class CompileResult:
    """Where the artifact is, what it says of itself and what its making took."""

    path: Path
    manifest: Manifest
    report: CompileReport


def compile_model(
    model: str,
    *,
    target: Target | str = "cpu",
    quant: str | None = None,
    out: Path | str,
    keep: Mapping[str, str] | None = None,
    disable: tuple[str, ...] = (),
    dump: Path | None = None,
    max_context_tokens: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    allow_unproven: bool = False,
    prove: bool = True,
    force: bool = False,
    cuda_compiler: str = "nvrtc",
    progress: Progress | None = None,
) -> CompileResult:
    """Compile `model` for `target` into the folder `out`.

    What is compiled:
      model: a Hub id, a checkpoint folder or `demo`.
      revision: a branch, tag or commit of the Hub's repository.
      trust_remote_code, allow_pickle: whether the checkpoint may run code of its own.
      max_context_tokens: the longest context, the model's own if `None`.
    How:
      target: a target or its name. quant: the name of a scheme, the target's default if `None`.
      keep: patterns of tensor names -> formats, which go before the scheme's.
      disable: names of rewrites to leave out. cuda_compiler: `nvrtc` or `nvcc`.
    What becomes of it:
      force: replace the artifact that is at `out`. dump: a folder for the IR after each stage.
      prove: compare the artifact with the eager model; for a target that this machine can't run the
        proof stays pending. allow_unproven: keep an artifact that departs.
      progress: called with a stage's name, steps done and steps in all.

    Raises an `IngotError` that says what is wrong, a `ProofError` if the artifact departs from the
    eager model. What was at `out` before stays as it was then.
    """
    import torch

    from ingot.compile.artifact_writer import ArtifactFolder, write_artifact
    from ingot.compile.pipeline import GraphOptions, compile_graph, find_tools
    from ingot.compile.proof import prove_artifact
    from ingot.compile.rewrites import QUANTIZE, check_names
    from ingot.compile.storage import FormatRules
    from ingot.models.capture import capture
    from ingot.models.resolve import resolve_model
    from ingot.models.tokenizer import check_tokenizer, tokenizer_files
    from ingot.models.weights import open_weights

    target = resolve_target_here(target) if isinstance(target, str) else target
    scheme_name = quant or target.default_scheme
    if scheme_name not in SCHEMES:
        raise UsageError(
            f"no quantization scheme is called {scheme_name!r}; schemes are {', '.join(SCHEMES)}"
        )
    check_names(disable)
    scheme = scheme_for("f32" if QUANTIZE in disable else scheme_name, target.kind)
    formats = FormatRules(scheme, tuple((keep or {}).items()))
    formats.check_target(target)
    observer = Observer(progress, dump)
    tuning = find_tuning(target)
    target = with_tuning(target, tuning)
    observer.report.sizes = describe_tuning(tuning, target)
    with ArtifactFolder(Path(out), force=force) as folder:
        source = resolve_model(
            model,
            revision=revision,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        )
        config = source.config
        tokenizer_files(source.path)
        check_tokenizer(source.path, config.vocab_size)
        reader = open_weights(source, check_finite=True)
        formats = formats.for_tensors({name: reader.aliases(name) for name in reader.names()})
        options = GraphOptions(target, formats, frozenset(disable), cuda_compiler)
        find_tools(options)  # what is missing is said before the export, which takes long
        with observer.stage("export"):
            captured = capture(
                config,
                dtype=torch.float32,
                max_context_tokens=max_context_tokens,
                trust_remote_code=trust_remote_code,
            )
        compiled = compile_graph(captured, options, folder.path / CODE_NAME, observer)
        gc.collect()
        with observer.stage("weights"):
            manifest = write_artifact(
                folder.path, source, reader, captured, options, compiled, observer
            )
        del reader, captured, compiled  # the proof wants the room: it holds the eager model
        gc.collect()
        observer.report.pending = why_not_here(manifest) if prove else ""
        if observer.report.pending:
            manifest = manifest.model_copy(update={"proof": ProofRecord(status="pending")})
            write_manifest(folder.path, manifest)
        elif prove:
            with observer.stage("proof"):
                manifest = prove_artifact(
                    folder.path, source, allow_unproven=allow_unproven, progress=observer.progress
                )
        folder.commit()
    return CompileResult(Path(out), manifest, observer.report)


def why_not_here(manifest: Manifest) -> str:
    """A sentence if this machine can't run the artifact; nothing if the proof is due now."""
    try:
        check_target(manifest.target, detect_machine(), manifest.kernels)
    except ArtifactTargetError as error:
        return error.message
    return ""
