"""Candidates of a size to their times on this machine's GPU: a graph each, timed by events.

A graph has the calls once for each copy of their tensors, of which there are so many that the cache
doesn't keep one until its next turn: weights come from memory, as in a model's step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingot.bench.gpu_kernels.load import arch_for_this_gpu, load_kernels
from ingot.bench.gpu_kernels.timing import capture, copies_to_fill, in_turns
from ingot.bench.gpu_kernels.write import write_kernels
from ingot.bench.tune.trial import Array, Timing, Tunable
from ingot.compile.cuda import Compile
from ingot.runtime.cuda import CudaMemory
from ingot.runtime.cuda.driver import Stream
from ingot.runtime.cuda.scratch import Scratch
from ingot.targets import Target

MAX_COPIES = 64
LIBRARY = "candidates"


def cuda_timing(compile_source: Compile) -> Timing:
    def time(tunable: Tunable, targets: Sequence[Target], repetitions: int) -> list[list[float]]:
        memory = CudaMemory()
        copies = hold_copies(memory, tunable, targets[0].l2_bytes)
        with tempfile.TemporaryDirectory(prefix="ingot-tune-") as name:
            folder = Path(name)
            arch = arch_for_this_gpu(targets[0].archs)
            names = write_candidates(folder, tunable, targets, arch, compile_source)
            library = load_kernels(folder, LIBRARY, arch)
            stream, scratch = Stream(), Scratch()
            graphs = []
            with scratch.serves(folder / f"{LIBRARY}.so"), stream.takes_kernels():
                for of_target in names:
                    functions = [library[name] for name in of_target]
                    graphs.append(capture(stream, functions, copies))
            times = [
                [seconds / len(copies) for seconds in each]
                for each in in_turns(graphs, stream, repetitions)
            ]
            stream.wait()
        return times

    return time


def write_candidates(
    folder: Path,
    tunable: Tunable,
    targets: Sequence[Target],
    arch: str,
    compile_source: Compile,
) -> list[list[str]]:
    """One library with each kernel of each target; gives the names of each target's calls."""
    names, functions = [], {}
    for number, target in enumerate(targets):
        specs = list(dict.fromkeys(call.spec for call in tunable.calls))
        names.append([f"target_{number}_{specs.index(call.spec)}" for call in tunable.calls])
        for name, call in zip(names[-1], tunable.calls, strict=True):
            if name not in functions:
                functions[name] = call.build(target)
    here = replace(targets[0], cuda_arch=arch, cuda_archs=())
    write_kernels(folder, LIBRARY, functions, here, compile_source)
    return names


def hold_copies(memory: CudaMemory, tunable: Tunable, cache_bytes: int) -> list[list[list[Any]]]:
    """The calls' tensors on the GPU, outputs last, as often as it takes to fill the cache twice."""
    arrays: dict[int, Array] = {id(a): a for call in tunable.calls for a in call.arguments}
    num_bytes = sum(array.nbytes for array in arrays.values())
    count = copies_to_fill(cache_bytes, num_bytes, MAX_COPIES)
    copies = []
    for _ in range(count):
        held = dict(zip(arrays, memory.hold_all(list(arrays.values())), strict=True))
        copies.append(
            [
                [*(held[id(a)] for a in call.arguments), memory.empty(call.out_shape, "float32")]
                for call in tunable.calls
            ]
        )
    return copies
