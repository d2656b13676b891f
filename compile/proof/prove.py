"""An artifact and its checkpoint to a proof: figures, a verdict, and the first departing layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ingot.compile.proof.bounds import Bounds, bounds_for
from ingot.compile.proof.figures import compare
from ingot.compile.proof.traces import (
    CompiledModel,
    EagerModel,
    Tokens,
    generate,
    trace_decode,
    trace_prefill,
)
from ingot.compile.report import Progress
from ingot.errors import ProofError
from ingot.models.eager import load_eager
from ingot.models.resolve import ModelSource
from ingot.models.upcast import compute_in_float32
from ingot.runtime.artifact.artifact import Artifact, load_artifact
from ingot.runtime.artifact.manifest import Manifest, ProofRecord, write_manifest

_TEXT = "def read_lines(path):\n    with open(path) as stream:\n        return [line for line in"
_LENGTHS = (41, 13)  # past a page and within one
_GREEDY_TOKENS = 24
_LAYER_FACTOR = 4.0  # a layer departs when its error is this often the bound on the logits


@dataclass(frozen=True, slots=True)
class ProofReport:
    """The figures and what they mean."""

    figures: dict[str, Any]
    failures: tuple[str, ...]
    first_departing_layer: int | None

    @property
    def is_proven(self) -> bool:
        return not self.failures

    def record(self) -> ProofRecord:
        return ProofRecord(status="proven" if self.is_proven else "failed", figures=self.figures)


def prove_artifact(
    folder: Path,
    source: ModelSource,
    *,
    allow_unproven: bool,
    progress: Progress | None = None,
) -> Manifest:
    """Prove the artifact in `folder` and write the outcome into its manifest.

    Raises `ProofError`, which names the figure and the layer, unless `allow_unproven`.
    """
    artifact = load_artifact(folder)
    report = run_proof(artifact, source, progress=progress)
    if not report.is_proven and not allow_unproven:
        raise ProofError(
            f"the compiled model departs from eager: {'; '.join(report.failures)}",
            hint=_hint(report),
        )
    manifest = artifact.manifest.model_copy(update={"proof": report.record()})
    write_manifest(folder, manifest)
    return manifest


def _hint(report: ProofReport) -> str:
    layer = report.first_departing_layer
    where = f"layer {layer} is the first that departs; " if layer is not None else ""
    return (
        f"{where}`ingot verify --bisect` names the rewrite at fault, "
        "`--allow-unproven` keeps the artifact all the same"
    )


def run_proof(
    artifact: Artifact, source: ModelSource, *, progress: Progress | None = None
) -> ProofReport:
    """Compare logits and hidden states in prefill and in decode, and greedy text."""
    tell = progress or (lambda stage, done, total: None)
    manifest = artifact.manifest
    bounds = bounds_for(manifest.scheme)
    context = manifest.step.max_context_tokens
    model = load_eager(source, stored_dtype(source), max_context_tokens=context)
    eager = EagerModel(compute_in_float32(model))
    sequences = proof_sequences(artifact)
    greedy = min(_GREEDY_TOKENS, context - len(sequences[1]))
    compiled = CompiledModel(artifact, len(sequences), max(map(len, sequences)) + greedy)
    expected = [eager.trace(tokens) for tokens in sequences]
    tell("proof", 1, 4)
    figures: dict[str, Any] = {
        "prefill": compare(expected, trace_prefill(compiled, sequences)),
        "decode": compare(expected, trace_decode(compiled, sequences)),
    }
    tell("proof", 2, 4)
    prompt = sequences[1]
    wanted = eager.generate(prompt, greedy)
    tell("proof", 3, 4)
    written = generate(compiled, prompt, greedy)
    same = next((i for i, (a, b) in enumerate(zip(wanted, written, strict=True)) if a != b), greedy)
    figures["greedy"] = {"tokens": greedy, "equal": same}
    figures["bounds"] = {"max_error": bounds.max_error, "kl_mean": bounds.kl_mean}
    tell("proof", 4, 4)
    return ProofReport(figures, _failures(figures, bounds), _first_departing(figures, bounds))


def stored_dtype(source: ModelSource) -> torch.dtype:
    """What the checkpoint says its weights are; held so, they take no more memory than it does."""
    dtype = source.config.dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def proof_sequences(artifact: Artifact) -> list[Tokens]:
    """Two token sequences: text as the tokenizer reads it, then ids from the whole vocabulary."""
    from tokenizers import Tokenizer

    context, vocab = artifact.manifest.step.max_context_tokens, artifact.manifest.step.vocab_size
    ids = Tokenizer.from_file(str(artifact.path / "tokenizer.json")).encode(_TEXT).ids
    random = np.random.default_rng(0)
    text, scattered = (min(length, context - 1) for length in _LENGTHS)
    filled = [*(i for i in ids if i < vocab), *random.integers(0, vocab, text).tolist()]
    return [filled[:text], random.integers(0, vocab, scattered).tolist()]


def _failures(figures: dict[str, Any], bounds: Bounds) -> tuple[str, ...]:
    failures = []
    for phase in ("prefill", "decode"):
        for name in ("max_error", "kl_mean"):
            value, limit = figures[phase][name], getattr(bounds, name)
            if not value <= limit:
                failures.append(f"{phase} {name} is {value:.3g}, the bound is {limit:g}")
    greedy = figures["greedy"]
    if bounds.greedy_must_match and greedy["equal"] < greedy["tokens"]:
        failures.append(f"greedy text differs from token {greedy['equal']} on")
    return tuple(failures)


def _first_departing(figures: dict[str, Any], bounds: Bounds) -> int | None:
    limit = bounds.max_error * _LAYER_FACTOR
    errors = zip(figures["prefill"]["layer_errors"], figures["decode"]["layer_errors"], strict=True)
    return next(
        (layer for layer, both in enumerate(errors) if not all(error <= limit for error in both)),
        None,
    )
