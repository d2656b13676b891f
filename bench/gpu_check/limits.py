"""This machine's GPU to what copies and cuBLAS reach on it, by torch, and how fast weights load."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ingot.runtime.cuda import CudaMemory

COPY_BYTES = 1 << 30
MATMUL_SIZE = 8192
UPLOAD_BYTES = 1 << 30
REPEATS = 20


def measure_limits(upload_bytes: int = UPLOAD_BYTES) -> dict[str, Any]:
    """Figures by name; `without` says why some are missing."""
    found: dict[str, Any] = {"upload_gb_s": measure_upload(upload_bytes)}
    try:
        import torch
    except ImportError:
        return {**found, "without": "torch isn't installed: no limits to compare with"}
    if not torch.cuda.is_available():
        return {**found, "without": "torch sees no GPU: no limits to compare with"}
    return {**found, **measure_with_torch(), "torch": torch.__version__}


def measure_with_torch() -> dict[str, float]:
    import torch

    source = torch.empty(COPY_BYTES // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    pinned = torch.empty(source.shape, dtype=torch.float32, pin_memory=True)
    copy_s = time_on_gpu(lambda: target.copy_(source))
    pinned_s = time_on_gpu(lambda: target.copy_(pinned, non_blocking=True))
    size = MATMUL_SIZE
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    matmul_s = time_on_gpu(lambda: left @ right)
    return {
        "copy_gb_s": 2 * COPY_BYTES / copy_s / 1e9,  # read and written
        "pinned_copy_gb_s": COPY_BYTES / pinned_s / 1e9,
        "bf16_tflops": 2 * size**3 / matmul_s / 1e12,
    }


def time_on_gpu(work: Callable[[], Any]) -> float:
    """Seconds of one of many launches, by torch's events."""
    import torch

    work()
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(REPEATS):
        work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / REPEATS


def measure_upload(num_bytes: int) -> float:
    """GB/s of weights that are in the host's memory already, to the GPU."""
    memory = CudaMemory()
    weights = [np.ones(num_bytes // 4, np.uint8) for _ in range(4)]
    memory.hold_all(weights[:1])
    started = time.perf_counter()
    memory.hold_all(weights)
    return num_bytes / (time.perf_counter() - started) / 1e9
