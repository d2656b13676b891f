"""The micro-kernels to figures: built for this machine, run by the thin runtime, timed."""

from __future__ import annotations

import datetime
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tvm import relax, tirx

from ingot.bench.limits import amx, kernels
from ingot.bench.limits.measurements import (
    Measurement,
    Sizes,
    bandwidths,
    machine_sizes,
    peaks,
    regions,
    targets_of_instructions,
    tile_peaks,
)
from ingot.bench.limits.record import Figure, Limits
from ingot.bench.machine import describe_machine
from ingot.compile.build import generate, plan
from ingot.runtime.amx import allow_tiles
from ingot.runtime.vm import VirtualMachine, aligned_zeros, as_tensor
from ingot.targets import Target, best_cpu_target, detect_cpu

STEP_KERNELS = 64

Progress = Callable[[str], None]


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
        everything = [(best, bandwidths(best, threads, sizes) + [regions(threads)])]
        everything += [
            (target, peaks(target, threads, sizes, known))
            for target, known in targets_of_instructions(best)
        ]
        if amx.tile_instructions(best):
            allow_tiles(best.features)
            everything.append((best, tile_peaks(best, threads, sizes)))
        for number, (target, measurements) in enumerate(everything):
            report(f"limits: building for {target.name}")
            library = Path(folder) / f"{number}.so"
            build_library(measurements, target, library)
            vm = VirtualMachine(library, threads)
            for measurement in measurements:
                report(f"limits: {measurement.name}")
                figures.append(run_measurement(vm, measurement, sizes.repetitions))
        report("limits: kernel call")
        figures.append(measure_kernel_call(best, Path(folder) / "step.so", threads, sizes))
    return Limits(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine,
        threads=threads,
        figures=tuple(figures),
        l2_bytes=sizes.l2_bytes * threads,
        l3_bytes=sizes.l3_bytes,
    )


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
