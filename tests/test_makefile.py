"""`make` alone explains itself, and values reach the recipes whatever characters they hold."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str) -> str:
    # As from a shell, where `make test` runs this file too.
    command = ["make", "--no-print-directory", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout


def test_help_lists_every_target() -> None:
    text = make()
    targets = "setup demo compile run chat serve verify bench gpu-check test lint docs demo-model"
    for target in [*targets.split(), "clean"]:
        (line,) = [line for line in text.splitlines() if line.startswith(f"  make {target} ")]
        assert len(line.split()) > 4, f"{target} has no help"


def test_compile_for_cuda_names_the_arch() -> None:
    commands = make("-n", "compile", "TARGET=cuda", "CUDA_ARCH=sm_80", "MODEL=org/name", "QUANT=w4")
    assert '--target "cuda:sm_80" --quant w4' in commands
    assert "[nvrtc]" in commands or (ROOT / ".venv/.ingot-setup-nvrtc").exists()


def test_without_an_arch_cuda_is_this_machines_gpu() -> None:
    assert '--target "cuda" ' in make("-n", "compile", "TARGET=cuda")


def test_a_gpu_check_is_prepared_first() -> None:
    commands = make("-n", "gpu-check", "CHECK=artifacts/absent", "CHECK_ARGS=--shapes 0.5b")
    prepared = commands.index('gpu_check prepare "artifacts/absent" --target "cuda"')
    assert prepared < commands.index('gpu_check run "artifacts/absent"')
    assert commands.rstrip().endswith("--shapes 0.5b")


def test_values_are_not_pasted_into_the_shell() -> None:
    commands = make("-n", "run", "PROMPT=it's $$(touch oops)", "OUT=a b")
    assert "oops" not in commands
    assert '"$OUT" "$PROMPT"' in commands


@pytest.mark.parametrize("target", ["run", "chat", "serve", "verify", "bench"])
def test_using_an_artifact_makes_it_first(target: str) -> None:
    commands = make("-n", target, "OUT=artifacts/absent")
    assert commands.index("ingot compile") < commands.rindex(f"ingot {target}")
