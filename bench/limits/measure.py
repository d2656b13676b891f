"""The micro-kernels to figures: built for this machine, run by the thin runtime, timed."""

from __future__ import annotations

import datetime
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx

from ingot.bench.limits import amx, kernels
from ingot.bench.limits.record import Figure, Limits, Unit
from ingot.bench.machine import describe_machine
from ingot.compile.build import generate, plan
from ingot.runtime.amx import allow_tiles
from ingot.runtime.vm import VirtualMachine, aligned_zeros, as_tensor
from ingot.targets import Target, best_cpu_target, detect_cpu, load_targets

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
DEFAULT_L3_BYTES = 32 << 20  # where the system doesn't say
LEAST_MEMORY_BYTES = 256 << 20
REGIONS = 1000
STEP_KERNELS = 64

Progress = Callable[[str], None]
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


def measure_limits(
    threads: int, progress: Progress | None = None, sizes: Sizes | None = None
) -> Limits:
    """Measure everything, some ten seconds in all."""
    report = progress or (lambda line: None)
    cpu = detect_cpu()
    best = best_cpu_target(cpu)
    sizes = sizes or machine_sizes(best)
    machine = describe_machine()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="ingot-limits-") as folder:
        everything = [(best, bandwidths(best, threads, sizes) + [regions(threads, sizes)])]
        everything += [
            (target, peaks(target, threads, sizes, known))
            for target, known in targets_of_instructions(best)
        ]
        if amx.tile_instructions(best):
            allow_tiles(best.features)
            everything.append((best, tile_peaks(best, threads, sizes)))
        for number, (target, measurements) in enumerate(everything):
            report(f"building for {target.name}")
            library = Path(folder) / f"{number}.so"
            build_library(measurements, target, library)
            vm = VirtualMachine(library, threads)
            for measurement in measurements:
                report(measurement.name)
                figures.append(run_measurement(vm, measurement, sizes.repetitions))
        report("kernel call")
        figures.append(measure_kernel_call(best, Path(folder) / "step.so", threads, sizes))
    return Limits(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine,
        threads=threads,
        figures=tuple(figures),
        l2_bytes=sizes.l2_bytes * threads,
        l3_bytes=sizes.l3_bytes,
    )


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


def bandwidths(target: Target, threads: int, sizes: Sizes) -> list[Measurement]:
    lanes = target.float32_lanes
    step = 4 * lanes * kernels.CHAINS

    def chunk_of(num_bytes: int) -> int:
        """Elements for each thread."""
        return max(1, num_bytes // threads // step) * step // 4

    found = []
    places = (
        ("memory read", sizes.memory_bytes, 1),
        # Half of each cache: the other half is for whatever else is in it.
        ("l3 read", min(sizes.l3_bytes // 2, sizes.memory_bytes), 0),
        ("l2 read", threads * sizes.l2_bytes // 2, 0),
    )
    for name, num_bytes, passes in places:
        chunk = chunk_of(num_bytes)
        passes = passes or max(2, sizes.cache_traffic_bytes // (4 * chunk))
        function = kernels.build_read(threads, chunk, passes, lanes)
        source = aligned_zeros((threads * chunk,), "int32")
        source[...] = 1  # pages that were never written are all one page of zeros
        amount = 4.0 * threads * chunk * passes
        how = f"{4 * threads * chunk >> 10} KiB in all, {passes} times"
        found.append(
            Measurement(name, "byte/s", amount, function, (source,), (threads, lanes), "int32", how)
        )
    chunk = chunk_of(sizes.memory_bytes)
    shape = (threads * chunk,)
    copied, start = found[0].arguments[0], aligned_zeros((lanes,), "int32")
    copy = kernels.build_copy(threads, chunk, lanes)
    write = kernels.build_write(threads, chunk, lanes)
    how = f"{4 * threads * chunk >> 10} KiB, plain stores"
    amount = 4.0 * threads * chunk
    return [
        *found,
        Measurement(
            "memory copy",
            "byte/s",
            2 * amount,
            copy,
            (copied,),
            shape,
            "int32",
            f"{how}, both ways",
        ),
        Measurement("memory write", "byte/s", amount, write, (start,), shape, "int32", how),
    ]


def regions(threads: int, sizes: Sizes) -> Measurement:
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


def build_library(measurements: Sequence[Measurement], target: Target, path: Path) -> None:
    """A library with one function of the virtual machine for each measurement."""
    builder = relax.BlockBuilder()
    for number, measurement in enumerate(measurements):
        function = measurement.function.without_attr("global_symbol")
        callee = builder.add_func(function, f"kernel_{number}")
        parameters = [
            relax.Var(f"x{i}", relax.TensorType(array.shape, str(array.dtype)))
            for i, array in enumerate(measurement.arguments)
        ]
        out = relax.TensorType(measurement.out_shape, measurement.out_dtype)
        with builder.function(measurement.name.replace(" ", "_"), parameters):
            with builder.dataflow():
                result = builder.emit_output(relax.call_tir(callee, parameters, out))
            builder.emit_func_output(result)
    generate(plan(builder.get()), target, path)


def run_measurement(vm: VirtualMachine, measurement: Measurement, repetitions: int) -> Figure:
    arguments = [as_tensor(array) for array in measurement.arguments]
    name = measurement.name.replace(" ", "_")
    times = time_calls(lambda: vm.call(name, *arguments), repetitions)
    if measurement.unit == "s":
        values = [seconds / measurement.amount for seconds in times]
    else:
        values = [measurement.amount / seconds for seconds in times]
    best = min(values) if measurement.unit == "s" else max(values)
    return Figure(
        name=measurement.name,
        unit=measurement.unit,
        best=best,
        median=statistics.median(values),
        count=len(values),
        how=measurement.how,
        feature=measurement.feature,
    )


def time_calls(call: Callable[[], Any], repetitions: int) -> list[float]:
    """Seconds of each call after one that isn't timed."""
    call()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def measure_kernel_call(target: Target, path: Path, threads: int, sizes: Sizes) -> Figure:
    """What the virtual machine takes for each kernel beside its work: dispatch and its output's
    buffer. A function of many of the least kernels, divided by their number."""
    lanes = target.float32_lanes
    builder = relax.BlockBuilder()
    step = kernels.build_step(lanes).without_attr("global_symbol")
    callee = builder.add_func(step, "least")
    rows = tirx.Var("n", "int64")
    shape = relax.TensorType([rows, lanes], "float32")
    x = relax.Var("x", shape)
    with builder.function("step", [x]):
        with builder.dataflow():
            value: Any = x
            for _ in range(STEP_KERNELS):
                value = builder.emit(relax.call_tir(callee, [value], shape))
            result = builder.emit_output(value)
        builder.emit_func_output(result)
    generate(plan(builder.get()), target, path)
    vm = VirtualMachine(path, threads)
    start = as_tensor(aligned_zeros((1, lanes), "float32"))
    times = time_calls(lambda: vm.call("step", start), 10 * sizes.repetitions)
    values = [seconds / STEP_KERNELS for seconds in times]
    return Figure(
        name="kernel call",
        unit="s",
        best=min(values),
        median=statistics.median(values),
        count=len(values),
        how=f"{STEP_KERNELS} kernels of one vector in one function of the virtual machine",
    )
