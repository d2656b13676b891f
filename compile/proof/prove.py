"""An artifact and its checkpoint to a proof: figures, a verdict, and the first departing layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ingot.compile.proof.bounds import Bounds, bounds_for
from ingot.compile.proof.figures import compare, compare_layers
from ingot.compile.proof.rounding import ArtifactRounding, check_formats
from ingot.compile.proof.traces import (
    CompiledModel,
    EagerModel,
    Tokens,
    Trace,
    generate,
    trace_decode,
    trace_prefill,
)
from ingot.compile.report import Progress
from ingot.errors import ProofError
from ingot.models.eager import load_eager
from ingot.models.resolve import ModelSource
from ingot.models.rounding import round_matrices, rounded_attention
from ingot.models.upcast import compute_in_float32
from ingot.runtime.artifact.artifact import Artifact, load_artifact
from ingot.runtime.artifact.manifest import Manifest, ProofRecord, write_manifest

_TEXT = "def read_lines(path):\n    with open(path) as stream:\n        return [line for line in"
_LENGTHS = (41, 13)  # past a page and within one
_GREEDY_TOKENS = 24
PHASES = ("prefill", "decode")


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
    """Each layer against eager that rounds alike, then all of them against eager as it is.

    Both in prefill and in decode; greedy text too.
    """
    tell = progress or (lambda stage, done, total: None)
    manifest = artifact.manifest
    check_formats(manifest.scheme)
    bounds = bounds_for(manifest.scheme, manifest.target.features)
    context = manifest.step.max_context_tokens
    model = compute_in_float32(load_eager(source, stored_dtype(source), max_context_tokens=context))
    rounding = ArtifactRounding(manifest, model)
    sequences = proof_sequences(artifact)
    prompt = sequences[-1]
    greedy = min(_GREEDY_TOKENS, context - len(prompt))
    compiled = CompiledModel(artifact, len(sequences), max(map(len, sequences)) + greedy)
    traces = {
        "prefill": trace_prefill(compiled, sequences),
        "decode": trace_decode(compiled, sequences),
    }
    written = generate(compiled, prompt, greedy)
    tell("proof", 1, 3)
    eager = EagerModel(model)
    # Once more what was written, all at once: each of eager's choices is seen in one pass.
    *expected, last = eager.trace([*sequences[:-1], [*prompt, *written[:-1]]])
    wanted = last.logits[len(prompt) - 1 :].argmax(-1).tolist()
    same = next((i for i, (a, b) in enumerate(zip(wanted, written, strict=True)) if a != b), greedy)
    expected.append(last.first(len(prompt)))
    figures: dict[str, Any] = {name: compare(expected, found) for name, found in traces.items()}
    figures["greedy"] = {"tokens": greedy, "equal": same}
    del expected, last
    tell("proof", 2, 3)
    round_matrices(model, rounding)
    with rounded_attention(model, rounding) as cache:
        figures["kernels"] = _compare_kernels(eager, cache, sequences, traces, bounds)
    figures["bounds"] = bounds.record()
    tell("proof", 3, 3)
    return ProofReport(figures, _failures(figures, bounds), _first_departing(figures))


def _compare_kernels(
    eager: EagerModel,
    cache: Any,
    sequences: list[Tokens],
    traces: dict[str, list[Trace]],
    bounds: Bounds,
) -> dict[str, Any]:
    """Each phase beside eager, layer by layer; eager beside itself after a nudge gives the bound.

    All of it in one pass, for each weight is rounded again in each pass.
    """
    prefill, decode = traces["prefill"], traces["decode"]
    n = len(sequences)
    found = eager.trace(
        sequences * 3, given=[*prefill, *decode, *prefill], num_nudged=n, cache=cache
    )
    nudged = compare_layers(found[:n], found[2 * n :], prefill)
    return {
        "prefill": compare_layers(found[:n], prefill, prefill),
        "decode": compare_layers(found[n : 2 * n], decode, decode),
        "bound": {name: bounds.after_nudge(name, changes) for name, changes in nudged.items()},
    }


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
    for phase in PHASES:
        for name in ("best", "worst"):
            departures = list(_departures(figures, phase, name))
            if departures:
                layer, value, limit = max(departures, key=lambda departure: departure[1])
                failures.append(
                    f"{phase} {name} error of {_layer_name(figures, layer)} is {value:.3g}, "
                    f"the bound is {limit:.3g}"
                )
        for name in ("max_error", "kl_mean"):
            value, limit = figures[phase][name], getattr(bounds, name)
            if not value <= limit:
                failures.append(f"{phase} {name} is {value:.3g}, the bound is {limit:g}")
    greedy = figures["greedy"]
    if bounds.greedy_must_match and greedy["equal"] < greedy["tokens"]:
        failures.append(f"greedy text differs from token {greedy['equal']} on")
    return tuple(failures)


def _departures(
    figures: dict[str, Any], phase: str, name: str
) -> Iterator[tuple[int, float, float]]:
    """Each layer whose kernels are off, with its error and the bound of that."""
    kernels = figures["kernels"]
    pairs = zip(kernels[phase][name], kernels["bound"][name], strict=True)
    for layer, (error, limit) in enumerate(pairs):
        if not error <= limit:
            yield layer, error, limit


def _layer_name(figures: dict[str, Any], layer: int) -> str:
    is_head = layer == len(figures["prefill"]["layer_errors"])
    return "the head" if is_head else f"layer {layer}"


def _first_departing(figures: dict[str, Any]) -> int | None:
    """The first layer whose kernels are off; the head is none."""
    found = [
        layer
        for phase in PHASES
        for name in ("best", "worst")
        for layer, *_ in _departures(figures, phase, name)
    ]
    first = min(found, default=len(figures["prefill"]["layer_errors"]))
    return first if _layer_name(figures, first) != "the head" else None
