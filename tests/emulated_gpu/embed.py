"""`embed.py CHECKPOINT SCHEME OUT`: compile for a GPU and embed, in a process that emulates one.

Prints as JSON the prompts and their vectors, of the last token and of all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ingot.compile.pipeline
from ingot import Engine
from ingot.compile.api import compile_model
from ingot.runtime.request_options import POOLING_KINDS
from tests.emulated_gpu.emulator import compile_source

LENGTHS = (1, 5, 17, 31)  # some longer than a step


def main(checkpoint: str, scheme: str, out: str) -> None:
    folder = Path(out).parent
    ingot.compile.pipeline.cuda_compiler = lambda _name: (
        lambda source, _arch: compile_source(source, folder)
    )
    compile_model(checkpoint, target="cuda", quant=scheme, out=out, prove=False)
    prompts = [[(7 * i + length) % 300 for i in range(length)] for length in LENGTHS]
    with Engine(out, num_pages=16, max_sequences=4, max_step_tokens=12) as engine:
        vectors = {
            kind: engine.embed(prompts, pooling=kind, normalize=False).tolist()
            for kind in POOLING_KINDS
        }
    print(json.dumps({"prompts": prompts, "vectors": vectors}))


if __name__ == "__main__":
    main(*sys.argv[1:])
