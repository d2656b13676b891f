"""Which micro-kernels measure a machine: their sizes, inputs, and what one call amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from ingot.bench.limits import amx, kernels
from ingot.bench.limits.record import Unit
from ingot.runtime.vm import aligned_zeros
from ingot.targets import Target, detect_cpu, load_targets

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
DEFAULT_L3_BYTES = 32 << 20  # where the system doesn't say
LEAST_MEMORY_BYTES = 256 << 20
REGIONS = 1000

Arrays = tuple[NDArray[Any], ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each measurement moves and computes; smaller in tests."""

    memory_bytes: int
    l3_bytes: int
    l2_bytes: int  # of one core
    cache_traffic_bytes: int  # read in one call from a cache, by one thread
    iterations: int  # of a peak's loop
    repetitions: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One function to be built and timed; `amount` bytes, operations or things for each call."""

    name: str
    unit: Unit
    amount: float
    function: tirx.PrimFunc
    arguments: Arrays
    out_shape: tuple[int, ...]
    out_dtype: str
    how: str
    feature: str = ""


def machine_sizes(target: Target) -> Sizes:
    """Sizes from the caches that the system reports, else from the target's data."""
    l3 = read_cache_bytes(3) or DEFAULT_L3_BYTES
    return Sizes(
        memory_bytes=max(LEAST_MEMORY_BYTES, 4 * l3),
        l3_bytes=l3,
        l2_bytes=read_cache_bytes(2) or target.l2_bytes,
        cache_traffic_bytes=256 << 20,
        iterations=500_000,
        repetitions=9,
    )


def read_cache_bytes(level: int) -> int:
    """What `/sys` says of one level's data or unified cache; 0 if it doesn't say."""
    for folder in sorted(CACHES.glob("index*")):
        kind, found, size = (
            (folder / name).read_text().strip() for name in ("type", "level", "size")
        )
        if kind != "Instruction" and int(found) == level and size.endswith("K"):
            return int(size[:-1]) << 10
    return 0


def targets_of_instructions(best: Target) -> list[tuple[Target, list[kernels.Instruction]]]:
    """Each instruction once, with the plainest target that has it among those that run here."""
    cpu = detect_cpu()
    runnable = [t for t in load_targets().values() if t.kind == "cpu" and not cpu.missing(t)]
    runnable.sort(key=lambda target: (len(target.features), target.name))
    seen: set[tuple[str, str]] = set()
    found = []
    for target in [*(t for t in runnable if t.name != best.name), best]:
        new = [i for i in kernels.instructions(target) if (i.mnemonic, i.feature) not in seen]
        seen.update((i.mnemonic, i.feature) for i in new)
        if new:
            found.append((target, new))
    return found


def memory_read(target: Target, threads: int, sizes: Sizes) -> Measurement:
    return _read("memory read", sizes.memory_bytes, 1, target, threads)


def bandwidths(target: Target, threads: int, sizes: Sizes) -> list[Measurement]:
    read = memory_read(target, threads, sizes)
    [copied] = read.arguments
    found = [read]
    # Half of each cache: the other half is for whatever else is in it.
    for name, num_bytes in (
        ("l3 read", min(sizes.l3_bytes // 2, sizes.memory_bytes)),
        ("l2 read", threads * sizes.l2_bytes // 2),
    ):
        passes = max(2, sizes.cache_traffic_bytes * threads // num_bytes)
        found.append(_read(name, num_bytes, passes, target, threads))
    lanes = target.float32_lanes
    chunk = len(copied) // threads
    start = aligned_zeros((lanes,), "int32")
    copy = kernels.build_copy(threads, chunk, lanes)
    write = kernels.build_write(threads, chunk, lanes)
    how = f"{copied.nbytes >> 10} KiB, plain stores"
    amount = float(copied.nbytes)
    return [
        *found,
        Measurement(
            "memory copy",
            "byte/s",
            2 * amount,
            copy,
            (copied,),
            copied.shape,
            "int32",
            f"{how}, both ways",
        ),
        Measurement("memory write", "byte/s", amount, write, (start,), copied.shape, "int32", how),
    ]


def _read(name: str, num_bytes: int, passes: int, target: Target, threads: int) -> Measurement:
    """Reading about so many bytes again and again."""
    lanes = target.float32_lanes
    step = 4 * lanes * kernels.CHAINS
    chunk = max(1, num_bytes // threads // step) * step // 4  # elements for each thread
    function = kernels.build_read(threads, chunk, passes, lanes)
    source = aligned_zeros((threads * chunk,), "int32")
    source[...] = 1  # pages that were never written are all one page of zeros
    amount = float(source.nbytes * passes)
    how = f"{source.nbytes >> 10} KiB in all, {passes} times"
    return Measurement(name, "byte/s", amount, function, (source,), (threads, lanes), "int32", how)


def regions(threads: int) -> Measurement:
    function = kernels.build_regions(threads, REGIONS)
    start = aligned_zeros((threads,), "int32")
    how = f"{REGIONS} regions of {threads} tasks in a row"
    return Measurement("region", "s", REGIONS, function, (start,), (threads,), "int32", how)


def peaks(
    target: Target, threads: int, sizes: Sizes, known: Sequence[kernels.Instruction]
) -> list[Measurement]:
    registers = kernels.num_accumulators(target)
    found = []
    for instruction in known:
        lanes = target.vector_bytes // instruction.element_bytes
        starts = aligned_zeros((threads, registers, lanes), instruction.dtype)
        starts[...] = np.arange(starts.size).reshape(starts.shape) % 100
        operands = aligned_zeros((2, target.vector_bytes // 4), "int32")
        # Small numbers in whatever type they are read as: no denormals, no infinities.
        operands[...] = 0x3C003C00
        amount = float(threads * registers * lanes * sizes.iterations * instruction.operations)
        function = kernels.build_peak(instruction, target, threads, sizes.iterations)
        found.append(
            Measurement(
                f"{instruction.kind} {instruction.feature}",
                "op/s",
                amount,
                function,
                (starts, operands),
                starts.shape,
                instruction.dtype,
                f"{instruction.mnemonic}, {registers} registers of {8 * target.vector_bytes} bits",
                instruction.feature,
            )
        )
    return found


def tile_peaks(target: Target, threads: int, sizes: Sizes) -> list[Measurement]:
    start = aligned_zeros((threads,), "int32")
    return [
        Measurement(
            f"{instruction.kind} {instruction.feature}",
            "op/s",
            float(threads * sizes.iterations * amx.SUMS * instruction.operations),
            amx.build_tile_peak(instruction, threads, sizes.iterations),
            (start,),
            (threads,),
            "int32",
            f"{instruction.mnemonic}, {amx.SUMS} tiles",
            instruction.feature,
        )
        for instruction in amx.tile_instructions(target)
    ]
