"""Two compiles of one model give byte-identical folders, whatever the process and the folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ingot.compile.api import CompileResult

PROGRAM = """
import sys
from ingot.compile.api import compile_model
compile_model(sys.argv[1], quant="f32", out=sys.argv[2])
"""


def test_another_process_elsewhere(
    compiled_llama: CompileResult, tiny_llama: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(tiny_llama, tmp_path / "moved" / tiny_llama.name)
    out = tmp_path / "other name"
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(checkpoint), str(out)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    first, second = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (compiled_llama.path, out)
    )
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []
