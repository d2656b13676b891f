"""`tune.py OUT SIZE...`: `ingot tune --target cuda`, in a process that emulates a GPU.

The model is a tiny Llama, only the sizes that are named are searched, and on short prompts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ingot.compile.cuda
from ingot.bench.tune import cuda, cuda_timing, shapes
from ingot.cli import main
from tests.emulated_gpu.emulator import compile_source

TINY_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "num_hidden_layers": 2,
}
SCALE = 16


def tune(out: str, *names: str) -> None:
    ingot.compile.cuda.cuda_compiler = lambda _name: (
        lambda source, _arch: compile_source(source, Path(out).parent)
    )
    shapes.EIGHT_BILLION = TINY_LLAMA
    cuda_timing.MAX_COPIES = 1
    all_tunables = cuda.tunables
    cuda.tunables = lambda target, of: tuple(
        t for t in all_tunables(target, of, SCALE) if t.name in names
    )
    sys.argv = ["ingot", "tune", "--target", "cuda", "--repeat", "1", "--out", out, "--json"]
    main()


if __name__ == "__main__":
    tune(*sys.argv[1:])
