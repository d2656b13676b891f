"""The sizes of the CPU kernels and how their candidates are timed.

The shapes are those of a model with half a billion parameters in four bits. A size belongs to a
machine and a kernel, not to a model: what it trades, registers and cache against work, is alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ingot.bench.limits.measure import build_library
from ingot.bench.limits.measurements import Measurement
from ingot.bench.profile.case import decode, prefill
from ingot.bench.profile.measure import times_in_turns
from ingot.bench.tune.trial import Bench, Timing, Tunable, attention_call, linear_call
from ingot.compile.kernels.matmul.cpu import TILES_PER_TASK, choose_tiles
from ingot.compile.kernels.matmul.cpu_dot import PREFETCH_BYTES
from ingot.compile.kernels.matmul.spec import LinearSpec, layout
from ingot.compile.kernels.paged_attention.cpu import ENOUGH_BLOCKS
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.paged_attention.tiles import MAX_BLOCK_ROWS
from ingot.compile.schemes import FORMATS
from ingot.runtime.amx import allow_tiles
from ingot.runtime.vm import VirtualMachine, as_tensor
from ingot.targets import Target, detect_cpu

SHAPES = "half a billion parameters in w4"
LINEAR = LinearSpec(4864, 896, FORMATS["q4_s128"], "int8", has_bias=False)
# As long as a head, so that its weights come from memory and not from a cache.
LONG = LinearSpec(75968, 896, FORMATS["q4_s128"], "int8", has_bias=False)
HEADS, KV_HEADS, HEAD_DIM = 14, 2, 64


def cpu_bench(target: Target, threads: int) -> Bench:
    device = f"{detect_cpu().model_name} with {threads} threads"
    return Bench(tunables(target), cpu_timing(threads), device, SHAPES)


def tunables(target: Target, scale: int = 1) -> tuple[Tunable, ...]:
    """All that a target has; with a `scale` the trials are that many times smaller, for tests."""
    found: list[Tunable] = []
    if layout(LINEAR, target).dot:
        rows = guessed_rows(target)
        near = tuple(size for size in range(rows - 2, rows + 3) if size >= 2)
        many_rows = (linear_call(target, LINEAR, 512 // scale),)
        long = replace(LONG, out_features=LONG.out_features // scale)
        few_rows = (linear_call(target, long, 8),)
        prefetches = (1024, 4096, 16384, 32768, 65536)
        found = [
            Tunable("matmul_dot_rows", rows, near, many_rows),
            Tunable("matmul_tiles_per_task", TILES_PER_TASK, (4, 8, 16, 32, 64), many_rows),
            Tunable("matmul_prefetch_bytes", PREFETCH_BYTES, prefetches, few_rows),
        ]
    page = target.page_size_tokens
    attention = PagedAttentionSpec(
        HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM, HEAD_DIM**-0.5, kv_dtype="bfloat16", page_size=page
    )
    prompt = (attention_call(attention, prefill(512 // scale)),)
    step = (attention_call(attention, decode(4096 // scale, 8)),)
    return (
        *found,
        Tunable("attention_block_rows", MAX_BLOCK_ROWS, (24, 48, 96), prompt),
        Tunable("attention_enough_blocks", ENOUGH_BLOCKS, (1, 8, 16, 32, 64, 128), step),
    )


def guessed_rows(target: Target) -> int:
    """What the int8 tile takes from the registers, as the kernel works it out."""
    from ingot.compile.kernels.vector_ir import count, kernel

    with kernel("nothing") as function:
        x = function.argument("x", (count("n"), LINEAR.in_features))
        make_tiles = choose_tiles(LINEAR, target)
        return make_tiles(LINEAR, target, layout(LINEAR, target), x, []).rows


def cpu_timing(threads: int) -> Timing:
    """All candidates in one library, called in turns."""

    def time(tunable: Tunable, targets: Sequence[Target], repetitions: int) -> list[list[float]]:
        names = [
            [f"target_{t}_call_{c}" for c in range(len(tunable.calls))] for t in range(len(targets))
        ]
        measurements = [
            Measurement(
                name=name,
                unit="s",
                amount=1.0,
                function=call.build(target),
                arguments=call.arguments,
                out_shape=call.out_shape,
                out_dtype="float32",
                how="",
            )
            for target, of_target in zip(targets, names, strict=True)
            for name, call in zip(of_target, tunable.calls, strict=True)
        ]
        with tempfile.TemporaryDirectory(prefix="ingot-tune-") as folder:
            library = Path(folder) / "candidates.so"
            build_library(measurements, targets[0], library)
            allow_tiles(targets[0].features)
            vm = VirtualMachine(library, threads)
            arguments = [[as_tensor(array) for array in call.arguments] for call in tunable.calls]

            def candidate(of_target: list[str]) -> Callable[[], object]:
                def run() -> None:
                    for name, tensors in zip(of_target, arguments, strict=True):
                        vm.call(name, *tensors)

                return run

            return times_in_turns(*map(candidate, names), repetitions=repetitions)

    return time
