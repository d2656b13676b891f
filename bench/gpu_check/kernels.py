"""A folder of kernels to errors and times on this machine's GPU, with the runtime alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.bench.gpu_check.case import CASES_NAME, FUNCTION_NAME
from ingot.bench.gpu_check.cases import make_cases
from ingot.bench.gpu_kernels.load import arch_for_this_gpu, load_kernels
from ingot.bench.gpu_kernels.timing import capture, copies_to_fill, in_turns
from ingot.runtime.cuda import CudaMemory
from ingot.runtime.cuda.driver import Stream
from ingot.runtime.cuda.scratch import Scratch
from ingot.targets.target import parse_target

REPEATS = 10
MAX_COPIES = 64


@dataclass(frozen=True, slots=True)
class Result:
    """One call of one kernel: the GPU's own time, and what it moved and computed in it. Calls that
    are only timed have no error."""

    name: str
    label: str
    max_error: float | None
    bound: float
    microseconds: float
    gb_s: float  # of weights, of keys and values, or else of all that is moved
    tflops: float

    @property
    def ok(self) -> bool:
        return self.max_error is None or self.max_error <= self.bound  # not-a-number isn't


def check_kernels(folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Run all cases with a line for each; gives what goes into the JSON."""
    results = []
    for result in run_cases(folder):
        error, verdict = " " * 27, "ok" if result.ok else "WRONG"
        if result.max_error is not None:
            error = f"error {result.max_error:.2e} of {result.bound:.2e}"
        report(
            f"{result.name:18} {result.label:24} {result.microseconds:9.1f} us "
            f"{result.gb_s:7.0f} GB/s {result.tflops:6.1f} Tflop/s  {error}  {verdict}"
        )
        results.append(result)
    failures = [f"{result.name}, {result.label} is WRONG" for result in results if not result.ok]
    return {"ok": not failures, "failures": failures, "calls": list(map(asdict, results))}


def run_cases(folder: Path) -> Iterator[Result]:
    """Run every case of the folder, with inputs that are drawn here."""
    table = json.loads((folder / CASES_NAME).read_text("utf-8"))
    target = parse_target(table["target"])
    cases = {case.name: case for case in make_cases(target, small=table["small"])}
    cache_bytes = 0 if table["small"] else target.l2_bytes
    arch = arch_for_this_gpu(target.archs)
    memory = CudaMemory()
    for number, name in enumerate(table["cases"]):
        function = load_kernels(folder, f"{number:02d}", arch)[FUNCTION_NAME]
        library = folder / f"{number:02d}.so"
        for call in cases[name].calls(np.random.default_rng(number)):
            arrays = call.arguments()
            tensors = [memory.hold(array) for array in arrays]
            function(*tensors)
            outs = tensors if call.in_place else tensors[len(call.arrays) :]
            error = largest_error(map(memory.read, outs), call.expected)
            num_bytes = sum(array.nbytes for array in call.arrays)
            count = copies_to_fill(cache_bytes, num_bytes, MAX_COPIES)
            more = [[memory.hold(array) for array in arrays] for _ in range(count - 1)]
            seconds = time_calls(library, function, [tensors, *more])
            yield Result(
                name,
                call.label,
                error,
                call.bound,
                seconds * 1e6,
                call.num_bytes / seconds / 1e9,
                call.operations / seconds / 1e12,
            )


def largest_error(found: Iterable[NDArray[Any]], right: Sequence[NDArray[Any]]) -> float | None:
    """Of the values of all outputs, or of their bits where they are held as integers; NaN if there
    is one, None if nothing is known to be right."""
    pairs = zip(right, found, strict=False)
    errors = [np.abs(out.astype(np.float64) - wanted).max() for wanted, out in pairs]
    return float(np.max(errors)) if errors else None  # `max` may lose a NaN


def time_calls(library: Path, function: Callable[..., Any], copies: list[list[Any]]) -> float:
    """Seconds of one call, the median over turns; each copy of the tensors has one in a turn."""
    stream, scratch = Stream(), Scratch()
    with scratch.serves(library), stream.takes_kernels():
        graph = capture(stream, [function], [[tensors] for tensors in copies])
    (times,) = in_turns([graph], stream, REPEATS)
    return statistics.median(times) / len(copies)
