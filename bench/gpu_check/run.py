"""A prepared folder to results on this machine's GPU, with the runtime alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ingot.bench.gpu_kernels.load import arch_for_this_gpu, load_kernels, wait_for_gpu
from ingot.runtime.cuda import CudaMemory

REPEATS = 20
UPLOAD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Result:
    """One call of one kernel. `microseconds` is of a launch among many, not of the GPU alone."""

    name: str
    label: str
    max_error: float
    bound: float
    microseconds: float

    @property
    def ok(self) -> bool:
        return self.max_error <= self.bound  # false for not-a-number


def run_cases(folder: Path) -> Iterator[Result]:
    """Run every case of the folder."""
    table = json.loads((folder / "cases.json").read_text("utf-8"))
    arch = arch_for_this_gpu(table["archs"])
    memory = CudaMemory()
    for case in table["cases"]:
        function = load_kernels(folder, case["prefix"], arch)[case["function"]]
        for call in case["calls"]:
            yield _run_call(folder, case["name"], call, function, memory)


def _run_call(
    folder: Path, name: str, call: dict[str, Any], function: Any, memory: CudaMemory
) -> Result:
    with np.load(folder / call["file"]) as arrays:
        expected = arrays["expected"]
        count = len(arrays.files) - 1
        inputs = [memory.hold(arrays[f"arr_{i}"]) for i in range(count)]
    out = memory.hold(np.full(expected.shape, np.nan, np.float32))
    function(*inputs, out)
    error = float(np.abs(memory.read(out) - expected).max())
    started = time.perf_counter()
    for _ in range(REPEATS):
        function(*inputs, out)
    wait_for_gpu()
    seconds = (time.perf_counter() - started) / REPEATS
    return Result(name, call["label"], error, call["bound"], seconds * 1e6)


def measure_upload(num_bytes: int = UPLOAD_BYTES) -> float:
    """GB/s of weights that are in the host's memory already, to the GPU."""
    memory = CudaMemory()
    weights = [np.ones(num_bytes // 4, np.uint8) for _ in range(4)]
    memory.hold_all(weights[:1])
    started = time.perf_counter()
    memory.hold_all(weights)
    return num_bytes / (time.perf_counter() - started) / 1e9


def check_kernels(folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Run all cases with a line for each; gives what goes into the JSON."""
    results = []
    for result in run_cases(folder):
        verdict = "ok" if result.ok else "WRONG"
        report(
            f"{result.name:22} {result.label:24} {result.microseconds:10.1f} us  "
            f"error {result.max_error:.2e} of {result.bound:.2e}  {verdict}"
        )
        results.append({**asdict(result), "ok": result.ok})
    return {"ok": all(result["ok"] for result in results), "kernels": results}
