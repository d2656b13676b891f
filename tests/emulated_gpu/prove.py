"""`prove.py CHECKPOINT TARGET SCHEME OUT`: compile for a GPU and prove, in a process with an
emulated one.

What a machine with that GPU does, but for the cubin: NVRTC's place is taken by the emulator.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ingot.compile.pipeline
from ingot.compile.api import compile_model
from tests.emulated_gpu.emulator import compile_source


def main(checkpoint: str, target: str, scheme: str, out: str) -> None:
    folder = Path(out).parent
    ingot.compile.pipeline.cuda_compiler = lambda _name: (
        lambda source, _arch: compile_source(source, folder)
    )
    result = compile_model(checkpoint, target=target, quant=scheme, out=out)
    print(json.dumps(result.manifest.proof.model_dump(mode="json")))


if __name__ == "__main__":
    main(*sys.argv[1:])
