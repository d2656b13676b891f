"""`make gpu-check` is prepared and run on an emulated GPU, on small shapes and in all of its parts;
torch sees no GPU there, so what it measures is left out with a sentence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ingot.compile.cuda
import ingot.compile.pipeline
from ingot.bench.checkpoint import Shape
from ingot.bench.gpu_check import case_files
from ingot.bench.gpu_check.cases import make_cases
from ingot.bench.gpu_check.plan import Plan, Proof
from ingot.bench.gpu_check.prepare import prepare
from ingot.errors import UsageError
from ingot.targets import load_targets
from tests.emulated_gpu.emulator import build_driver, compile_source, environment

ROOT = Path(__file__).resolve().parents[3]
TARGET = load_targets()["cuda:sm_90"]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 304,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
SMALL = Plan(
    shapes={"tiny": Shape("llama", SIZES)},
    proofs={"llama-w4": Proof(Shape("llama", SIZES), "w4")},
    schemes=("w4",),
    batches=(1, 2),
    context_tokens=16,
    decode_steps=2,
    prefill_tokens=24,
    max_context_tokens=128,
    upload_bytes=1 << 20,
    proves_demo=False,
    small_kernels=True,
)
KERNELS = (
    "linear q4_s128",
    "attention bfloat16",
    "norm rms",
    "silu",
    "gelu_tanh",
    "kv_write bfloat16",
    "sample",
    "penalize",
    "mask",
    "logprobs",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was prepared, beside it the emulated GPU's driver."""
    scratch = tmp_path_factory.mktemp("check")
    folder = scratch / "prepared"

    def compiler(_name: str) -> Any:
        return lambda source, _arch: compile_source(source, scratch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingot.compile.cuda, "cuda_compiler", compiler)
        patch.setattr(ingot.compile.pipeline, "cuda_compiler", compiler)
        patch.setattr(
            case_files,
            "make_cases",
            lambda target, small: (c for c in make_cases(target, small=small) if c.name in KERNELS),
        )
        prepare(folder, TARGET, SMALL)
    build_driver(scratch)
    return folder


def run(folder: Path, *options: str, **more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ingot.bench.gpu_check", "run", str(folder), *options]
    return subprocess.run(
        [*command, "--out", str(folder / "out.json")],
        env=environment(folder.parent, COLUMNS="160", **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_all_parts_run(prepared: Path) -> None:
    done = run(prepared)
    assert done.returncode == 0, done.stdout + done.stderr + (prepared / "out.log").read_text()
    results = json.loads((prepared / "out.json").read_text())
    assert not results["card"] or "driver_version" in results["card"]  # as nvidia-smi has it
    parts = {" ".join((part["way"], *part["of"])): part["result"] for part in results["parts"]}
    proof, model = "proof llama-w4", "ingot tiny w4"
    peers = ["eager tiny", "torch-compile tiny"]
    assert list(parts) == ["limits", "kernels", proof, model, *peers]

    assert parts["limits"]["upload_gb_s"] > 0 and "torch sees no GPU" in parts["limits"]["without"]
    assert all(parts[peer] == {"without": "torch sees no CUDA device"} for peer in peers)
    assert parts[proof]["proof"]["status"] == "proven"
    calls = parts["kernels"]["calls"]
    assert {call["name"] for call in calls} == set(KERNELS)
    assert sum(call["max_error"] is None for call in calls) == 2  # a prompt and a decoding batch
    assert all(call[unit] > 0 for call in calls for unit in ("microseconds", "gb_s"))

    found = parts[model]
    assert found["graphs"] and found["weights_read_bytes"] > 0
    assert found["prefill"]["tokens_s"] > 0 and found["prefill"]["tflops"] > 0
    assert list(found["decode"]) == ["1", "2"]
    for step in found["decode"].values():
        assert 0 < step["host_us"] < step["step_us"] and step["gpu_us"] > 0
    assert found["memory"]["weights_bytes"] > found["weights_read_bytes"] // 2
    assert 0 < found["start"]["load_s"] < found["start"]["first_token_s"]
    assert not list((prepared / "models").rglob("weights-*.safetensors"))
    assert "ingot tiny w4: ok" in done.stdout and "What is asked" in done.stdout
    assert "`ingot tune --target cuda`" in done.stdout


def test_wrong_answers_show(prepared: Path) -> None:
    """One kernel's code in another's place."""
    file = prepared / "kernels" / "cases.json"
    right = file.read_text()
    table = json.loads(right)
    assert table["cases"][3:5] == ["silu", "gelu_tanh"]
    table["cases"] = ["gelu_tanh" if i == 3 else name for i, name in enumerate(table["cases"])]
    file.write_text(json.dumps(table))
    done = run(prepared, "--parts", "kernels")
    file.write_text(right)
    assert done.returncode == 1 and "gelu_tanh, 5 rows is WRONG" in done.stdout


def test_another_gpu_is_refused(prepared: Path) -> None:
    done = run(prepared, EMULATED_GPU_CAPABILITY="80")
    assert done.returncode == 2
    assert "error: the kernels are for sm_90 GPUs; this machine has sm_80" in done.stderr


def test_unknown_names_are_refused(prepared: Path) -> None:
    done = run(prepared, "--shapes", "70b")
    assert done.returncode == 2 and "no shape is called '70b'; there are tiny" in done.stderr


def test_a_folder_is_not_written_over(prepared: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        prepare(prepared, TARGET, SMALL)
