"""Every scheme from checkpoint to proof, and tensors kept in a format of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingot.compile.api import compile_model
from ingot.compile.schemes import FORMATS, SCHEMES, formats_for, scheme_for
from ingot.errors import UsageError
from ingot.models.capture import CapturedModel
from ingot.runtime.artifact.manifest import Manifest
from tests.compile.conftest import write_checkpoint


def test_tables_fit() -> None:
    for name, scheme in SCHEMES.items():
        assert scheme.name == name
        assert set(scheme.formats) <= set(FORMATS)
    quantized = [code for code, format in FORMATS.items() if format.is_quantized]
    assert quantized == ["q8", "q6", "q8_g32", "q4_s128", "f8"]
    assert set(FORMATS) - set(formats_for("cpu")) == {"f8"}


def bytes_of(manifest: Manifest, name: str) -> int:
    return sum(weight.bytes for weight in manifest.weights if weight.name.startswith(name))


ON_CPUS = [name for name, s in SCHEMES.items() if set(s.formats) <= set(formats_for("cpu"))]


@pytest.mark.parametrize("name", [name for name in ON_CPUS if name != "f32"])
def test_proven(
    name: str,
    tiny_llama: Path,
    captured_llama: CapturedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingot.models.capture.capture", lambda config, **options: captured_llama)
    out, scheme = tmp_path / "artifact", SCHEMES[name]
    manifest = compile_model(str(tiny_llama), quant=name, out=out).manifest
    assert manifest.proof.status == "proven"
    assert {slot.dtype for slot in manifest.kv_slots} == {scheme.kv_dtype}
    stored = bytes_of(manifest, "model.layers.0.mlp.down_proj.weight") * 8 / (64 * 96)
    # w8: a float16 for 32 inputs; w4: one, and four multipliers, for 128, to which 96 are padded.
    assert stored == {"bf16": 16, "f16": 16, "w8": 8.5, "w4": 4.25 * 128 / 96}[name]


@pytest.mark.parametrize(("quant", "keep"), [("f8", {}), ("w8", {"lm_head": "f8"})])
def test_eight_bit_floats_are_for_gpus(quant: str, keep: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernels for f8, which is for GPUs alone"):
        compile_model("demo", target="cpu", quant=quant, keep=keep, out=tmp_path / "artifact")


def test_six_bits_are_for_cpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernels for q6, which is for CPUs alone"):
        compile_model("demo", target="cuda", keep={"lm_head": "q6"}, out=tmp_path / "artifact")


def test_a_scheme_takes_what_a_target_has_kernels_for() -> None:
    assert scheme_for("w4", "cpu") == SCHEMES["w4"]
    assert scheme_for("w4", "cuda").formats == ("q4_s128", "q8", "q8")
    assert scheme_for("f8", "cpu") == SCHEMES["f8"]  # refused, and nothing else in its place


def test_tied_head_is_stored_once_and_kept_by_either_name(tmp_path: Path) -> None:
    """Embedding and head share one tensor; `lm_head` names it though the checkpoint does not."""
    checkpoint = write_checkpoint(
        tmp_path / "tied", num_hidden_layers=1, tie_word_embeddings=True, vocab_size=301
    )
    manifest = compile_model(
        str(checkpoint), quant="w4", keep={"lm_head": "f16"}, out=tmp_path / "artifact"
    ).manifest
    assert manifest.proof.status == "proven"
    assert manifest.scheme.keep == {"lm_head": "f16"}
    tables = [w for w in manifest.weights if "embed" in w.name or "lm_head" in w.name]
    assert [(w.name, w.dtype) for w in tables] == [("model.embed_tokens.weight", "float16")]
