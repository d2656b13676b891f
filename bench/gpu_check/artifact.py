"""An artifact on this machine's GPU to its proof against eager, its speed and the GPU's limits."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

PROMPT_TOKENS, NEW_TOKENS = 512, 64


def check_artifact(folder: Path, model: str) -> dict[str, Any]:
    """Prove the artifact against `model` in transformers, then time prefill and decode."""
    from ingot.models.resolve import resolve_model
    from ingot.verify import verify_artifact

    proof = verify_artifact(folder, resolve_model(model)).record()
    return {
        "ok": proof.status == "proven",
        "proof": proof.model_dump(mode="json"),
        "speed": {str(batch): time_engine(folder, batch) for batch in (1, 16)},
        "speed_without_graphs": time_without_graphs(folder, 1),
    }


def time_without_graphs(folder: Path, batch: int) -> dict[str, float]:
    """As `time_engine`, with every kernel launched by itself."""
    before = os.environ.get("INGOT_CUDA_GRAPHS", "")
    os.environ["INGOT_CUDA_GRAPHS"] = "off"
    try:
        return time_engine(folder, batch)
    finally:
        os.environ["INGOT_CUDA_GRAPHS"] = before


def time_engine(folder: Path, batch: int) -> dict[str, float]:
    """Tokens a second in prefill and decode, by the requests' own times."""
    from ingot import Engine, SamplingParams

    engine = Engine(folder, max_sequences=batch)
    limit = engine.manifest.step.max_context_tokens - NEW_TOKENS
    prompt = list(range(1, min(PROMPT_TOKENS, limit) + 1))
    params = SamplingParams(max_tokens=NEW_TOKENS, temperature=0.0, ignore_eos=True)
    engine.generate([prompt] * batch, params)  # fills the pools of memory
    started = time.perf_counter()
    engine.generate([prompt] * batch, SamplingParams(max_tokens=1, temperature=0.0))
    prefill_s = time.perf_counter() - started
    started = time.perf_counter()
    engine.generate([prompt] * batch, params)
    decode_s = time.perf_counter() - started - prefill_s
    return {
        "prefill_tokens_s": batch * len(prompt) / prefill_s,
        "decode_tokens_s": batch * (NEW_TOKENS - 1) / decode_s,
    }


def measure_limits() -> dict[str, float]:
    """What copies and cuBLAS reach on this GPU, by torch; empty where torch sees no GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    source = torch.empty(1 << 28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    copy_s = _time(lambda: target.copy_(source))
    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    matmul_s = _time(lambda: left @ right)
    pinned = torch.empty(source.shape, dtype=torch.float32, pin_memory=True)
    return {
        "pinned_copy_gb_s": source.nbytes / _time(lambda: target.copy_(pinned)) / 1e9,
        "copy_gb_s": 2 * source.nbytes / copy_s / 1e9,
        "bf16_tflops": 2 * size**3 / matmul_s / 1e12,
    }


def _time(work: Any, repeats: int = 20) -> float:
    import torch

    work()
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / repeats
