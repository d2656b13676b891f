"""Machine code, weights and tokenizer to an artifact's folder, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import torch

from ingot.compile.build import EMBED, host_triple
from ingot.compile.pipeline import CompiledGraph, GraphOptions
from ingot.compile.report import Observer
from ingot.compile.sampling_functions import LOGPROBS, MASK
from ingot.compile.storage import WeightTable
from ingot.compile.weight_expressions import Array
from ingot.errors import CompileError, UsageError
from ingot.models.capture import CapturedModel
from ingot.models.resolve import ModelSource
from ingot.models.tokenizer import tokenizer_files
from ingot.models.weights import WeightReader
from ingot.runtime.artifact import manifest as records
from ingot.runtime.artifact.weights_file import TensorSpec, WeightsWriter

StoredWeights = tuple[list[records.WeightRecord], list[records.FileRecord]]
"""The tensors and their files, for the manifest."""


class ArtifactFolder:
    """A temporary folder beside `out` that takes its place when all is written.

    Whatever interrupts the work, nothing half-written stays: the temporary folder is removed and
    what stood at `out` before stays as it was.
    """

    def __init__(self, out: Path, *, force: bool) -> None:
        self._out = out.absolute()
        self._committed = False
        if not out.exists():
            return
        if not (out / records.MANIFEST_NAME).is_file():
            kept = "--force replaces nothing else" if force else "give another --out"
            raise UsageError(f"{out} exists already and is no artifact", hint=kept)
        if not force:
            raise UsageError(
                f"the artifact {out} exists already",
                hint="--force replaces it; --out writes another one",
            )

    def __enter__(self) -> ArtifactFolder:
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=f".{self._out.name}-", dir=self._out.parent))
        except OSError as error:
            raise CompileError(f"can't write to {self._out.parent}: {error.strerror}") from None
        return self

    def commit(self) -> None:
        """Put the finished folder in place of `out`; what was there goes last of all."""
        self.path.chmod(0o755)
        replaced = self._out.exists()
        if replaced:
            os.rename(self._out, self._old)
        try:
            os.rename(self.path, self._out)
        except BaseException:
            if replaced:
                os.rename(self._old, self._out)
            raise
        self._committed = True
        if self._old.is_symlink():
            self._old.unlink()
        elif replaced:
            shutil.rmtree(self._old)

    @property
    def _old(self) -> Path:
        """Where what stood at `out` is while the new folder takes its place."""
        return self.path.with_name(f"{self.path.name}-old")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._committed:
            shutil.rmtree(self.path, ignore_errors=True)
        if isinstance(error, OSError) and error.strerror:  # bare ones are of other libraries
            raise CompileError(f"can't write the artifact {self._out}: {error.strerror}") from None


def write_artifact(
    folder: Path,
    source: ModelSource,
    reader: WeightReader,
    captured: CapturedModel,
    options: GraphOptions,
    compiled: CompiledGraph,
    observer: Observer,
) -> records.Manifest:
    """Stream the weights and write the manifest beside the code, which is there already."""
    stored = _write_weights(folder, reader, compiled.weights, observer)
    return describe_artifact(
        folder, source, captured, options, compiled, observer, stored, reader.shape
    )


def describe_artifact(
    folder: Path,
    source: ModelSource,
    captured: CapturedModel,
    options: GraphOptions,
    compiled: CompiledGraph,
    observer: Observer,
    stored: StoredWeights,
    shape_of: Callable[[str], tuple[int, ...]],
) -> records.Manifest:
    """Write the manifest and the tokenizer beside the code; `shape_of` knows the checkpoint's
    tensors by their names."""
    weights, weight_files = stored
    target = options.target
    names = [records.CODE_NAME]
    if target.kind == "cuda":
        names += records.device_code_names(target.archs)
    for file in tokenizer_files(source.path):
        shutil.copyfile(file, folder / file.name)
        names.append(file.name)
    manifest = records.Manifest(
        ingot_version=version("ingot"),
        model=_describe_model(source, captured, shape_of),
        target=_describe_target(options),
        scheme=_describe_scheme(options),
        step=records.StepRecord(
            vocab_size=captured.vocab_size,
            max_context_tokens=captured.max_context_tokens,
            num_layers=captured.num_layers,
            hidden_size=captured.hidden_size,
            functions=records.FunctionsRecord(
                embed=EMBED,
                mask=MASK if target.kind == "cuda" else None,
                logprobs=LOGPROBS if target.kind == "cuda" else None,
            ),
            workspace=compiled.workspace,
        ),
        kv_slots=tuple(
            records.KVSlotRecord(
                kv_heads=slot.kv_heads,
                key_dim=slot.key_dim,
                value_dim=slot.value_dim,
                window=slot.window,
                dtype=options.formats.scheme.kv_dtype,
            )
            for slot in captured.kv_slots
        ),
        weights=tuple(weights),
        files=(*weight_files, *records.describe_files(folder, names)),
        versions={name: version(name) for name in ("apache-tvm", "torch", "transformers")},
        rewrites=tuple(
            records.RewriteRecord(name=name, matched=matched)
            for name, matched in observer.report.rewrites.items()
        ),
        kernels=compiled.kernels,
        work=compiled.work,
        proof=records.ProofRecord(status="unproven"),
    )
    records.write_manifest(folder, manifest)
    return manifest


def tensor_specs(weights: WeightTable) -> list[TensorSpec]:
    """The tensors of the weights files, in their order."""
    return [
        TensorSpec(t.name, t.dtype, t.shape)  # type: ignore[arg-type] # from the kernels' tables
        for weight in weights
        for t in weight.tensors
    ]


def _write_weights(
    folder: Path, reader: WeightReader, weights: WeightTable, observer: Observer
) -> StoredWeights:
    def read(name: str) -> Array:
        array: Array = reader.read(name).to(torch.float32).numpy()
        return array

    stored = list(weights)
    with WeightsWriter(folder, tensor_specs(weights)) as writer:
        for done, weight in enumerate(stored):
            observer.progress("weights", done, len(stored))
            arrays = weights.arrays(weight, read)
            for tensor, array in zip(weight.tensors, arrays, strict=True):
                writer.append(tensor.name, array)
    observer.progress("weights", len(stored), len(stored))
    return writer.weights, writer.files


def _describe_model(
    source: ModelSource, captured: CapturedModel, shape_of: Callable[[str], tuple[int, ...]]
) -> records.ModelRecord:
    config = captured.config
    parameters = 0
    for name in sorted(set(captured.parameters.values())):
        size = 1
        for extent in shape_of(name):
            size *= int(extent)
        parameters += size
    described = config.to_diff_dict()
    described.pop("_name_or_path", None)  # where it was read is no property of the model
    return records.ModelRecord(
        name=source.name,
        source=source.name,
        revision=source.revision,
        architecture=(config.architectures or [type(config).__name__])[0],
        model_type=config.model_type,
        config=described,
        num_parameters=parameters,
    )


def _describe_target(options: GraphOptions) -> records.TargetRecord:
    target = options.target
    return records.TargetRecord(
        name=target.name,
        kind=target.kind,  # type: ignore[arg-type]
        llvm_triple=host_triple(target),
        llvm_cpu=target.llvm_cpu,
        features=target.features,
        cuda_arch=target.cuda_arch,
        cuda_archs=target.archs,
        page_size_tokens=target.page_size_tokens,
        tuned=dict(target.tuned),
    )


def _describe_scheme(options: GraphOptions) -> records.SchemeRecord:
    scheme = options.formats.scheme
    return records.SchemeRecord(
        name=scheme.name,
        linear=scheme.linear,
        embedding=scheme.embedding,
        head=scheme.head,
        kv_dtype=scheme.kv_dtype,
        activations=scheme.activations,
        keep=dict(options.formats.keep),
    )
