"""The check is prepared and run, on an emulated GPU: right kernels pass, wrong answers show."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ingot.bench.gpu_check import prepare as module
from ingot.bench.gpu_check.cases import make_cases
from ingot.bench.gpu_check.prepare import prepare
from ingot.targets import load_targets
from tests.emulated_gpu.emulator import build_driver, compile_source, environment

ROOT = Path(__file__).resolve().parents[3]
TARGET = load_targets()["cuda:sm_90"]


def run(folder: Path, driver: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "ingot.bench.gpu_check",
            "run",
            folder,
            "--out",
            folder / "out.json",
        ],
        env=environment(driver, **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_kernels_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ("linear q4_s128", "attention bfloat16")
    monkeypatch.setattr(
        module,
        "make_cases",
        lambda target, small: (c for c in make_cases(target, small=small) if c.name in wanted),
    )
    folder, driver = tmp_path / "check", build_driver(tmp_path)
    prepare(folder, TARGET, lambda source, _arch: compile_source(source, tmp_path), small=True)
    done = run(folder, driver)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((folder / "out.json").read_text())
    assert results["gpu"] == "sm_90"
    assert not results["card"] or "driver_version" in results["card"]  # as nvidia-smi has it
    assert "`ingot tune --target cuda`" in done.stdout
    kernels = results["kernels"]["kernels"]
    assert {kernel["name"] for kernel in kernels} == set(wanted)
    assert all(kernel["ok"] for kernel in kernels)

    with np.load(folder / "00-0.npz") as arrays:
        changed = {**arrays, "expected": arrays["expected"] + 1}
    np.savez(folder / "00-0.npz", **changed)
    done = run(folder, driver)
    assert done.returncode == 1 and "WRONG" in done.stdout

    done = run(folder, driver, EMULATED_GPU_CAPABILITY="80")
    assert done.returncode == 2
    assert "error: the kernels are for sm_90 GPUs; this machine has sm_80" in done.stderr
