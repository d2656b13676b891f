"""A prepared folder to results on this machine's GPU, with the runtime alone."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact.machine import detect_cuda_arch, device_code_for
from ingot.runtime.cuda import CudaMemory
from ingot.runtime.ffi import tvm_ffi

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
    gpu = detect_cuda_arch()
    code = None if gpu is None else device_code_for(gpu, table["archs"])
    if code is None or not code.endswith(".cubin"):
        raise ArtifactTargetError(
            f"the check was prepared for {', '.join(table['archs'])} GPUs; "
            f"this machine has {gpu or 'none'}",
            hint="prepare it again with CUDA_ARCH= of this GPU",
        )
    arch = code.removeprefix("kernels-").removesuffix(".cubin")
    memory = CudaMemory()
    for case in table["cases"]:
        function = _load(folder, case["prefix"], arch)[case["function"]]
        for call in case["calls"]:
            yield _run_call(folder, case["name"], call, function, memory)


def _load(folder: Path, prefix: str, arch: str) -> Any:
    module = tvm_ffi.load_module(str((folder / f"{prefix}.so").resolve()))
    read = tvm_ffi.get_global_func("runtime.LoadMetaDataFromJSON")
    create = tvm_ffi.get_global_func("ffi.Module.create.cuda")
    launches = read((folder / f"{prefix}.json").read_text("utf-8"))
    cubin = (folder / f"{prefix}-{arch}.cubin").read_bytes()
    module.import_module(create(cubin, "cubin", launches, {}))
    return module


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


def wait_for_gpu() -> None:
    """Until all that was started is done."""
    ctypes.CDLL(None).cudaDeviceSynchronize()  # of the runtime that is in the process already


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
