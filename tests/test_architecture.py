"""The import rules of docs/structure.md hold, in the source and in a running process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "tvm", "onnx", "onnxruntime")


def test_import_contracts() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [str(linter), "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("module", ["ingot", "ingot.cli", "ingot.targets", "ingot.runtime"])
def test_module_imports_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules])\n"
        "assert not [m for m in sys.modules if m.startswith(('ingot.compile', 'ingot.models'))]"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_no_start_waits_for_what_few_requests_need() -> None:
    rare = (
        "ingot.runtime.constraints.masks",
        "ingot.runtime.constraints.matcher",
        "ingot.runtime.speculation.speculator",
        "ingot.runtime.speculation.draft_model",
        "decimal",
        "difflib",
        "jinja2",
        "pydantic",
        "tomllib",
    )
    code = f"import sys, ingot.runtime.engine; print(*[m for m in {rare!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
