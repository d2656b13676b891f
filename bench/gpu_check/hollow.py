"""A shape and a scheme to an artifact without its weights: code, manifest and tokenizer.

Code depends on shapes alone, so that a model of any size is compiled in the memory of its graph.
The manifest says where each tensor will lie; `random_values.fill_weights` puts something there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ingot.bench.checkpoint import list_tensors
from ingot.compile.artifact_writer import (
    ArtifactFolder,
    StoredWeights,
    describe_artifact,
    tensor_specs,
)
from ingot.compile.pipeline import GraphOptions, compile_graph
from ingot.compile.report import Observer
from ingot.compile.schemes import scheme_for
from ingot.compile.storage import FormatRules
from ingot.models.capture import CapturedModel, capture
from ingot.models.resolve import ModelSource
from ingot.runtime.artifact.manifest import CODE_NAME, FileRecord, WeightRecord
from ingot.runtime.artifact.weights_file import (
    TensorSpec,
    file_name,
    format_header,
    padding_after,
    split_into_files,
)
from ingot.targets import Target
from ingot.targets.tuned import find_tuning, with_tuning

NOT_WRITTEN = "0" * 64
"""In place of a hash: nothing checks it before an artifact is verified."""


def write_hollow_artifacts(
    config: Any, checkpoint: Path, schemes: Sequence[str], target: Target, context: int, tool: str
) -> None:
    """One folder inside `checkpoint`, which has a tokenizer, for each scheme; captured once."""
    captured = capture(config, dtype=torch.float32, max_context_tokens=context)
    source = ModelSource(checkpoint.name, checkpoint)
    tuned = with_tuning(target, find_tuning(target))
    for scheme in schemes:
        formats = FormatRules(scheme_for(scheme, target.kind))
        formats.check_target(target)
        options = GraphOptions(tuned, formats, cuda_compiler=tool)
        write_hollow_artifact(checkpoint / scheme, source, captured, options)


def write_hollow_artifact(
    out: Path, source: ModelSource, captured: CapturedModel, options: GraphOptions
) -> None:
    observer = Observer(None, None)
    shapes = list_tensors(captured.config)
    with ArtifactFolder(out, force=False) as folder:
        compiled = compile_graph(captured, options, folder.path / CODE_NAME, observer)
        stored = place_weights(tensor_specs(compiled.weights))
        describe_artifact(
            folder.path, source, captured, options, compiled, observer, stored, shapes.__getitem__
        )
        folder.commit()


def place_weights(specs: Sequence[TensorSpec]) -> StoredWeights:
    """Where the tensors will lie once they are written, as `WeightsWriter` lays them out."""
    weights: list[WeightRecord] = []
    files: list[FileRecord] = []
    for number, group in enumerate(split_into_files(specs), start=1):
        path, offset = file_name(number), len(format_header(group))
        for spec in group:
            size = spec.num_bytes
            weights.append(
                WeightRecord(
                    name=spec.name,
                    dtype=spec.dtype,
                    shape=spec.shape,
                    file=path,
                    offset=offset,
                    bytes=size,
                    sha256=NOT_WRITTEN,
                )
            )
            offset += size + padding_after(size)
        files.append(FileRecord(path=path, bytes=offset, sha256=NOT_WRITTEN))
    return weights, files
