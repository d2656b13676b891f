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
compile_model(sys.argv[1], quant=sys.argv[2], out=sys.argv[3])
"""


def compile_elsewhere(checkpoint: Path, quant: str, out: Path, hash_seed: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(checkpoint), quant, str(out)],
        cwd=out.parent,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr


def differing_files(one: Path, other: Path) -> list[str]:
    first, second = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (one, other)
    )
    assert set(first) == set(second)
    return [name for name in first if first[name] != second[name]]


def test_another_process_elsewhere(
    compiled_llama: CompileResult, tiny_llama: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(tiny_llama, tmp_path / "moved" / tiny_llama.name)
    out = tmp_path / "other name"
    compile_elsewhere(checkpoint, "f32", out, 12345)
    assert differing_files(compiled_llama.path, out) == []


def test_quantized_in_two_processes(tiny_llama: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("one", "two")]
    for hash_seed, out in enumerate(outs):
        compile_elsewhere(tiny_llama, "w8", out, hash_seed)
    assert differing_files(*outs) == []
