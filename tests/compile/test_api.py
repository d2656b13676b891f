"""compile_model: each kind of bad input gives its one error, early, and nothing is left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ingot.compile.api import CompileResult, compile_model
from ingot.errors import (
    CheckpointError,
    CompileError,
    IngotError,
    ModelError,
    UnsupportedModelError,
    UsageError,
)
from ingot.models.capture import CapturedModel
from ingot.runtime.artifact.manifest import read_manifest
from ingot.runtime.artifact.weights_file import WeightsWriter
from ingot.targets import best_cpu_target, detect_cpu

SAFETENSORS = "model.safetensors"


@pytest.fixture
def checkpoint(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "in" / "tiny-llama"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "artifact"


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow part must not be reached."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError("the model was exported before its input was checked")

    monkeypatch.setattr("ingot.models.capture.capture", reached)


@pytest.fixture
def exported(captured_llama: CapturedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """No second export of the model of which all tests' checkpoints are."""
    monkeypatch.setattr("ingot.models.capture.capture", lambda config, **options: captured_llama)


@pytest.fixture
def no_codegen(exported: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the export and the machine code, which take most of the time."""

    def write(_module: object, _target: object, path: Path, _cuda: object) -> tuple[()]:
        path.write_bytes(b"machine code")
        return ()

    monkeypatch.setattr("ingot.compile.pipeline.generate", write)


def leftovers(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir())


# --- options -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quant": "w5"}, UsageError, "no quantization scheme is called 'w5'.*f32, bf16"),
        ({"target": "tpu"}, IngotError, "tpu"),
        ({"target": "cuda", "cuda_compiler": "gcc"}, UsageError, "is one of nvrtc, nvcc"),
        ({"disable": ("fuse_all",)}, UsageError, "no rewrite is called 'fuse_all'"),
        ({"keep": {"lm_head": "q5"}}, UsageError, "no format is called 'q5'"),
        ({"keep": {"lm_haed": "f16"}}, UsageError, "no tensor of the model is called 'lm_haed'"),
    ],
)
def test_wrong_option(
    tiny_llama: Path, out: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compile_model(str(tiny_llama), out=out, **options)
    assert leftovers(out) == []


# --- models --------------------------------------------------------------------------------------


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama99"}))


def no_weights(folder: Path) -> None:
    (folder / SAFETENSORS).unlink()


def truncated_weights(folder: Path) -> None:
    file = folder / SAFETENSORS
    file.write_bytes(file.read_bytes()[:-1000])


def truncated_header(folder: Path) -> None:
    file = folder / SAFETENSORS
    file.write_bytes(file.read_bytes()[:100])


def missing_tensor(folder: Path) -> None:
    tensors = load_file(folder / SAFETENSORS)
    del tensors["model.norm.weight"]
    save_file(tensors, folder / SAFETENSORS)


def tensor_of_another_shape(folder: Path) -> None:
    tensors = load_file(folder / SAFETENSORS)
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1]
    save_file(tensors, folder / SAFETENSORS)


def only_pickle(folder: Path) -> None:
    (folder / SAFETENSORS).rename(folder / "pytorch_model.bin")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def tokenizer_of_a_larger_vocabulary(folder: Path) -> None:
    from ingot.bench.checkpoint import train_tokenizer

    train_tokenizer(folder, size=310)


def already_quantized(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))


BROKEN: list[tuple[Callable[[Path], None], type[IngotError], str]] = [
    (no_config, ModelError, "has no config.json"),
    (broken_config, ModelError, "config.json is not JSON"),
    (unknown_architecture, ModelError, "no architecture `llama99`"),
    (no_weights, CheckpointError, "has no model.safetensors"),
    (truncated_weights, CheckpointError, "is truncated"),
    (truncated_header, CheckpointError, "is truncated"),
    (missing_tensor, CheckpointError, "lacks 1 of 21 tensors: model.norm.weight"),
    (tensor_of_another_shape, CheckpointError, r"model.norm.weight .* \[63\].* \[64\]"),
    (only_pickle, CheckpointError, "only as pickle"),
    (no_tokenizer, ModelError, "has no tokenizer.json"),
    (tokenizer_of_a_larger_vocabulary, ModelError, "token ids up to 309; .* has 304"),
    (already_quantized, UnsupportedModelError, "already quantized .gptq."),
]


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize(("damage", "error", "message"), BROKEN)
def test_broken_model(
    checkpoint: Path,
    out: Path,
    damage: Callable[[Path], None],
    error: type[IngotError],
    message: str,
) -> None:
    damage(checkpoint)
    with pytest.raises(error, match=message):
        compile_model(str(checkpoint), quant="f32", out=out)
    assert leftovers(out) == []


@pytest.mark.usefixtures("no_export")
def test_no_model(out: Path) -> None:
    with pytest.raises(ModelError, match="no model at"):
        compile_model("./no/such/folder/", out=out)
    assert leftovers(out) == []


@pytest.mark.usefixtures("no_codegen")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(checkpoint: Path, out: Path, value: float) -> None:
    tensors = load_file(checkpoint / SAFETENSORS)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 5] = value
    save_file(tensors, checkpoint / SAFETENSORS)
    with pytest.raises(CheckpointError, match=f"tensor {name} .* NaN or infinite"):
        compile_model(str(checkpoint), quant="f32", out=out)
    assert leftovers(out) == []


# --- disk and interruption -----------------------------------------------------------------------


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.usefixtures("no_codegen")
def test_full_disk_for_the_weights(
    tiny_llama: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(IngotError, match="No space left on device"):
        compile_model(str(tiny_llama), quant="f32", out=out)
    assert leftovers(out) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "ingot-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs takes privileges")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.usefixtures("no_codegen")
def test_small_disk_for_the_weights(tiny_llama: Path, small_disk: Path) -> None:
    with pytest.raises(IngotError, match="No space left on device"):
        compile_model(str(tiny_llama), quant="f32", out=small_disk / "artifact")
    assert list(small_disk.iterdir()) == []


@pytest.mark.usefixtures("exported")
def test_small_disk_for_the_code(tiny_llama: Path, small_disk: Path) -> None:
    with pytest.raises(IngotError, match="No space left on device"):
        compile_model(str(tiny_llama), quant="f32", out=small_disk / "artifact", prove=False)
    assert list(small_disk.iterdir()) == []


@pytest.mark.usefixtures("exported")
def test_linker_that_fails(tiny_llama: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object, **__: object) -> SimpleNamespace:
        def export_library(path: str, **_: object) -> None:
            raise RuntimeError("Compilation error:\nld: cannot find -lm\nCommand line: g++")

        return SimpleNamespace(export_library=export_library)

    monkeypatch.setattr("tvm.relax.build", build)
    with pytest.raises(CompileError, match="can't be linked: ld: cannot find -lm"):
        compile_model(str(tiny_llama), quant="f32", out=out)
    assert leftovers(out) == []


@pytest.mark.usefixtures("exported")
def test_no_linker(tiny_llama: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(out.parent))
    monkeypatch.setattr("ingot.compile.pipeline.import_program", full)  # not reached
    with pytest.raises(CompileError, match="no C compiler"):
        compile_model(str(tiny_llama), quant="f32", out=out)
    assert leftovers(out) == []


def interrupt(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("no_codegen")
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("ingot.compile.pipeline", "generate"),
        (WeightsWriter, "append"),
        ("ingot.compile.proof", "prove_artifact"),
    ],
)
def test_interrupted(
    tiny_llama: Path, out: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    if isinstance(owner, str):
        monkeypatch.setattr(f"{owner}.{name}", lambda *_, **__: interrupt())
    else:
        monkeypatch.setattr(owner, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        compile_model(str(tiny_llama), quant="f32", out=out)
    assert leftovers(out) == []


# --- what it gives -------------------------------------------------------------------------------


def test_result(compiled_llama: CompileResult, tiny_llama: Path) -> None:
    manifest = compiled_llama.manifest
    assert manifest == read_manifest(compiled_llama.path)
    assert manifest.model.name == tiny_llama.name
    assert manifest.model.architecture == "LlamaForCausalLM"
    assert manifest.scheme.name == "f32"
    assert manifest.step.max_context_tokens == 128
    assert manifest.proof.status == "proven"
    assert {r.name: r.matched for r in manifest.rewrites} == compiled_llama.report.rewrites
    tensors = load_file(tiny_llama / SAFETENSORS)
    assert manifest.model.num_parameters == sum(t.size for t in tensors.values())


@pytest.mark.usefixtures("no_codegen")
def test_target_that_this_machine_cannot_run(tiny_llama: Path, out: Path) -> None:
    """What is compiled for another machine is proven there, by `ingot verify`."""
    here = best_cpu_target(detect_cpu())
    elsewhere = replace(here, name="cpu:elsewhere", features=(*here.features, "avx4096"))
    result = compile_model(str(tiny_llama), target=elsewhere, quant="f32", out=out)
    assert result.manifest.proof.status == "pending"
    assert read_manifest(out) == result.manifest


@pytest.mark.usefixtures("no_codegen")
def test_without_proof(tiny_llama: Path, out: Path) -> None:
    result = compile_model(str(tiny_llama), quant="f32", out=out, prove=False)
    assert result.manifest.proof.status == "unproven"


@pytest.mark.usefixtures("no_codegen")
def test_progress_and_dump(tiny_llama: Path, out: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    compile_model(
        str(tiny_llama),
        quant="w8",
        out=out,
        prove=False,
        dump=tmp_path / "ir",
        progress=lambda *step: told.append(step),
    )
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages[:2] == ["export", "import"] and stages[-1] == "weights"
    assert all(0 <= done <= total for _, done, total in told)
    weights = [done for stage, done, total in told if stage == "weights" and total > 1]
    assert weights == sorted(weights) and len(weights) > 10
    dumps = sorted(path.name for path in (tmp_path / "ir").iterdir())
    assert dumps[0] == "00-import.py" and dumps[-1].endswith("-plan.py")
    assert any(name.endswith("-fuse_norm.py") for name in dumps)


@pytest.mark.usefixtures("no_codegen")
def test_quantize_off_stores_float32(tiny_llama: Path, out: Path) -> None:
    result = compile_model(str(tiny_llama), quant="w4", out=out, disable=("quantize",), prove=False)
    assert result.manifest.scheme.name == "f32"
    assert {weight.dtype for weight in result.manifest.weights} == {"float32"}
