"""A right model proves, a broken one is caught, with the figure and the first departing layer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingot.compile.api import CompileResult, compile_model
from ingot.compile.proof.bounds import BOUNDS
from ingot.compile.proof.prove import (
    ProofReport,
    _failures,
    _first_departing,
    proof_sequences,
    prove_artifact,
    run_proof,
)
from ingot.errors import ArtifactVersionError, ProofError
from ingot.models.capture import CapturedModel
from ingot.models.resolve import resolve_model
from ingot.runtime.artifact.artifact import load_artifact
from ingot.runtime.artifact.manifest import read_manifest, write_manifest
from ingot.verify import bisect_rewrites, verify_artifact

BROKEN_LAYER = 1


@pytest.fixture(scope="module")
def broken(
    tiny_llama: Path, captured_llama: CapturedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CompileResult]:
    """`tiny_llama` with the wrong rotary embedding from layer 1 on, kept though unproven.

    The rewrite stays broken while the fixture lives.
    """
    fuse_rope = import_module("ingot.compile.rewrites.fuse_rope")  # its function has this name too
    rotation = fuse_rope._rotation_of
    found = 0

    def turn_pairs(*args: Any) -> bool | None:
        nonlocal found
        interleaved = rotation(*args)
        if interleaved is None:
            return None
        found += 1
        # queries and keys of two layers, in each compile
        return (found - 1) % 4 >= 2 * BROKEN_LAYER

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuse_rope, "_rotation_of", turn_pairs)
        patch.setattr("ingot.models.capture.capture", lambda config, **options: captured_llama)
        out = tmp_path_factory.mktemp("broken") / "artifact"
        yield compile_model(str(tiny_llama), quant="f32", out=out, allow_unproven=True)


def test_right_model(compiled_llama: CompileResult) -> None:
    proof = compiled_llama.manifest.proof
    assert proof.status == "proven"
    assert proof.figures["greedy"] == {"tokens": 24, "equal": 24}
    for phase in ("prefill", "decode"):
        assert proof.figures[phase]["max_error"] < BOUNDS["f32"].max_error
        assert proof.figures[phase]["top1"] == 1.0
        assert len(proof.figures[phase]["layer_errors"]) == 2
    for errors in proof.figures["kernels"].values():  # of two layers and the head
        assert [len(errors[name]) for name in ("best", "worst")] == [3, 3]


def test_broken_model_kept_on_demand(broken: CompileResult) -> None:
    proof = read_manifest(broken.path).proof
    assert proof.status == "failed"
    for phase in ("prefill", "decode"):
        kernels = proof.figures["kernels"][phase]
        for errors in (proof.figures[phase]["layer_errors"], kernels["best"], kernels["worst"]):
            assert errors[0] < BOUNDS["f32"].max_error < errors[1]
        assert kernels["worst"][2] < BOUNDS["f32"].max_error  # no fault of the head's
        assert proof.figures[phase]["max_error"] > BOUNDS["f32"].max_error


def test_broken_model_names_figure_and_layer(broken: CompileResult, tiny_llama: Path) -> None:
    before = (broken.path / "manifest.json").read_bytes()
    with pytest.raises(ProofError) as error:
        prove_artifact(broken.path, resolve_model(str(tiny_llama)), allow_unproven=False)
    assert "prefill best error of layer 1 is" in error.value.message
    assert "prefill max_error is" in error.value.message
    assert "the bound is 0.0001" in error.value.message
    assert f"layer {BROKEN_LAYER} is the first that departs" in error.value.hint
    assert "--bisect" in error.value.hint and "--allow-unproven" in error.value.hint
    assert (broken.path / "manifest.json").read_bytes() == before


def test_broken_model_is_not_left_behind(
    tiny_llama: Path, broken: CompileResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken artifact's code with the proof in force: an error, and an empty folder."""
    monkeypatch.setattr(
        "ingot.compile.pipeline.generate",
        lambda module, target, path, cuda: shutil.copy(broken.path / "model.so", path) and (),
    )
    with pytest.raises(ProofError, match="departs from eager"):
        compile_model(str(tiny_llama), quant="f32", out=tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_verify_finds_what_compile_found(broken: CompileResult, tiny_llama: Path) -> None:
    report = verify_artifact(broken.path, resolve_model(str(tiny_llama)))
    assert report.first_departing_layer == BROKEN_LAYER
    assert report.figures == read_manifest(broken.path).proof.figures


def test_bisect_names_the_rewrite(broken: CompileResult, tiny_llama: Path, tmp_path: Path) -> None:
    """Right without the broken rewrite alone; of the others one is tried here."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    manifest = broken.manifest
    some = tuple(
        r if r.name in ("fuse_norm", "fuse_rope") else r.model_copy(update={"matched": 0})
        for r in manifest.rewrites
    )
    write_manifest(folder, manifest.model_copy(update={"rewrites": some}))
    trials = bisect_rewrites(folder, resolve_model(str(tiny_llama)))
    verdicts = {trial.without: trial.report.is_proven for trial in trials}
    assert verdicts == {"": False, "fuse_norm": False, "fuse_rope": True}


def test_twice_the_same_figures(compiled_llama: CompileResult, tiny_llama: Path) -> None:
    source = resolve_model(str(tiny_llama))
    report = run_proof(load_artifact(compiled_llama.path), source)
    assert report.figures == compiled_llama.manifest.proof.figures


def test_sequences(compiled_llama: CompileResult) -> None:
    """Text first, then ids from the whole vocabulary; neither depends on anything but the model."""
    artifact = load_artifact(compiled_llama.path)
    text, scattered = proof_sequences(artifact)
    assert (len(text), len(scattered)) == (41, 13)
    assert proof_sequences(artifact) == [text, scattered]
    vocab = artifact.manifest.step.vocab_size
    assert all(0 <= token < vocab for token in (*text, *scattered))


@pytest.mark.parametrize("context", [2, 13, 14, 41])
def test_sequences_of_a_short_context(compiled_llama: CompileResult, context: int) -> None:
    artifact = load_artifact(compiled_llama.path)
    step = artifact.manifest.step.model_copy(update={"max_context_tokens": context})
    manifest = artifact.manifest.model_copy(update={"step": step})
    short = type(artifact)(artifact.path, manifest, artifact.weights)
    assert all(len(sequence) < context for sequence in proof_sequences(short))


def test_formats_of_another_version_are_refused_before_the_model_is_loaded(
    compiled_llama: CompileResult, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = load_artifact(compiled_llama.path)
    scheme = artifact.manifest.scheme.model_copy(update={"keep": {"lm_head": "q3_g7"}})
    manifest = artifact.manifest.model_copy(update={"scheme": scheme})
    old = type(artifact)(artifact.path, manifest, artifact.weights)
    monkeypatch.setattr("ingot.compile.proof.prove.load_eager", None)
    with pytest.raises(ArtifactVersionError, match="q3_g7"):
        run_proof(old, resolve_model(str(tiny_llama)))


# --- verdicts ------------------------------------------------------------------------------------


def figures(**changes: Any) -> dict[str, Any]:
    """Of three layers; `best` and `worst` change what the kernels do in decode, the head last."""
    phase = {"max_error": 1e-6, "kl_mean": 0.0, "layer_errors": [1e-6, 1e-6, 1e-6]}
    kernels = {"best": [1e-6] * 4, "worst": [1e-6] * 4}
    return {
        "prefill": dict(phase),
        "decode": {**phase, **changes},
        "greedy": {"tokens": 24, "equal": changes.get("equal", 24)},
        "kernels": {
            "prefill": kernels,
            "decode": {name: changes.get(name, errors) for name, errors in kernels.items()},
            "bound": {"best": [1e-5] * 4, "worst": [1e-4] * 4},
        },
    }


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"max_error": 2e-4}, "decode max_error is 0.0002, the bound is 0.0001"),
        ({"max_error": np.nan}, "decode max_error is nan, the bound is 0.0001"),
        ({"kl_mean": 1.0}, "decode kl_mean is 1, the bound is 1e-05"),
        (
            {"best": [1e-6, 2e-5, 3e-5, 1e-6]},
            "decode best error of layer 2 is 3e-05, the bound is 1e-05",
        ),
        (
            {"worst": [1e-6, 1e-6, 1e-6, np.inf]},
            "decode worst error of the head is inf, the bound is 0.0001",
        ),
        ({"equal": 3}, "greedy text differs from token 3 on"),
    ],
)
def test_failures(changes: dict[str, Any], failure: str) -> None:
    assert _failures(figures(**changes), BOUNDS["f32"]) == (failure,)


def test_no_failure() -> None:
    report = ProofReport(figures(), _failures(figures(), BOUNDS["f32"]), None)
    assert report.is_proven and report.record().status == "proven"


def test_quantized_text_may_differ() -> None:
    assert _failures(figures(equal=3), BOUNDS["w8"]) == ()


@pytest.mark.parametrize(
    ("errors", "layer"),
    [
        ([1e-6, 1e-6, 1e-6, 1e-6], None),
        ([1e-6, 1e-2, 1.0, 1.0], 1),
        ([np.nan, 1e-6, 1e-6, 1e-6], 0),
        ([1e-6, 1e-6, np.inf, 1e-6], 2),
        ([1e-6, 1e-6, 1e-6, 1.0], None),  # the head is no layer
    ],
)
@pytest.mark.parametrize("name", ["best", "worst"])
def test_first_departing_layer(errors: list[float], layer: int | None, name: str) -> None:
    assert _first_departing(figures(**{name: errors})) == layer
