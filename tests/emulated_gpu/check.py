"""`check.py CHECKPOINT FOLDER`: `make gpu-check` of an artifact, in a process that emulates a GPU.

Short prompts, few tokens and a small upload stand in for those of a real check.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ingot.compile.pipeline
from ingot.bench.gpu_check import artifact, run
from ingot.bench.gpu_check.__main__ import main
from ingot.compile.api import compile_model
from tests.emulated_gpu.emulator import compile_source


def check(checkpoint: str, name: str) -> None:
    folder = Path(name)
    ingot.compile.pipeline.cuda_compiler = lambda _name: (
        lambda source, _arch: compile_source(source, folder)
    )
    compile_model(checkpoint, target="cuda", quant="f16", out=folder / "model", prove=False)
    artifact.PROMPT_TOKENS, artifact.NEW_TOKENS = 16, 3
    run.measure_upload.__defaults__ = (1 << 20,)
    options = ["--artifact", folder / "model", "--model", checkpoint, "--out", folder / "out.json"]
    sys.argv = ["gpu_check", "run", str(folder), *map(str, options)]
    main()


if __name__ == "__main__":
    check(*sys.argv[1:])
