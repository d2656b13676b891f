"""An artifact's source is found or asked for; the rewrite at fault is named."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingot import verify
from ingot.compile.proof import ProofReport
from ingot.compile.rewrites import REWRITE_NAMES
from ingot.models.resolve import ModelSource

RIGHT = ProofReport({}, (), None)
OFF = ProofReport({}, ("prefill max_error is 1, the bound is 0.0001",), 0)


class FakeManifest(SimpleNamespace):
    def model_copy(self, update: dict[str, Any]) -> "FakeManifest":
        return FakeManifest(**{**vars(self), **update})


def make_manifest(**model: Any) -> Any:
    return FakeManifest(
        model=SimpleNamespace(**{"source": "demo", "revision": None, **model}),
        target=SimpleNamespace(name="cpu:x86-64-v3"),
        scheme=SimpleNamespace(name="f32", keep={"lm_head": "bf16"}),
        step=SimpleNamespace(max_context_tokens=64),
        rewrites=[
            SimpleNamespace(name="fuse_norm", matched=3),
            SimpleNamespace(name="fuse_rope", matched=2),
            SimpleNamespace(name="make_linears", matched=0),
        ],
        proof=SimpleNamespace(status="unproven", figures={}),
    )


@pytest.mark.parametrize(("before", "after"), [("unproven", RIGHT), ("pending", OFF)])
def test_first_proof_is_kept(
    before: str, after: ProofReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest()
    manifest.proof.status = before
    written: list[Any] = []
    monkeypatch.setattr(
        verify, "load_artifact", lambda *args, **options: SimpleNamespace(manifest=manifest)
    )
    monkeypatch.setattr(verify, "run_proof", lambda *args, **options: after)
    monkeypatch.setattr(verify, "write_manifest", lambda folder, made: written.append(made.proof))
    source = ModelSource("demo", Path("demo"))
    assert verify.verify_artifact(Path("a"), source) is after
    assert written == [after.record()]
    manifest.proof = SimpleNamespace(status="proven", figures={"kernels": {}})
    verify.verify_artifact(Path("a"), source)
    assert len(written) == 1
    manifest.proof.figures = {"prefill": {}}  # of an older Ingot
    verify.verify_artifact(Path("a"), source)
    assert len(written) == 2


def test_bisect_compiles_without_each_rewrite_that_matched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[Any] = []

    def compile_model(model: str, **options: Any) -> Any:
        compiled.append((model, options))
        return SimpleNamespace(path=options["disable"])

    off = [name for name in REWRITE_NAMES if name not in ("fuse_norm", "fuse_rope", "make_linears")]
    off.remove("quantize")
    monkeypatch.setattr(verify, "read_manifest", lambda folder: make_manifest())
    monkeypatch.setattr(verify, "compile_model", compile_model)
    monkeypatch.setattr(verify, "load_artifact", lambda path: path)
    monkeypatch.setattr(
        verify, "run_proof", lambda artifact, source: RIGHT if "fuse_rope" in artifact else OFF
    )
    trials = list(verify.bisect_rewrites(Path("a"), ModelSource("demo", Path("demo"))))
    found = [(trial.without, trial.report.is_proven) for trial in trials]
    # make_linears matched nothing; with --keep, rounding is a suspect too
    assert found == [("", False), ("fuse_norm", False), ("fuse_rope", True), ("quantize", False)]
    model, options = compiled[0]
    assert (model, options["quant"], options["keep"]) == ("demo", "f32", {"lm_head": "bf16"})
    assert (options["max_context_tokens"], options["prove"]) == (64, False)
    # what the artifact was compiled without stays off
    assert [list(options["disable"]) for _, options in compiled] == [
        off,
        [*off, "fuse_norm"],
        [*off, "fuse_rope"],
        [*off, "quantize"],
    ]
    assert compiled[-1][1]["keep"] == {}
