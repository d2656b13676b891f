"""A shape with random weights made on the GPU to the speed of transformers' eager or of
torch.compile, by the backends of `ingot bench compare`."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.bench.backends import create_backend
from ingot.bench.backends.base import Setting
from ingot.bench.gpu_check.plan import Plan, shape_folder
from ingot.bench.peers.measure import make_prompts
from ingot.bench.worker import Job, measure

SKIPPED_STEPS = 2


def time_peer(
    name: str,
    folder: Path,
    of: Sequence[str],
    batches: tuple[int, ...],
    plan: Plan,
    started_s: float,
    device: str = "cuda",
) -> dict[str, Any]:
    """Decoding in bfloat16 at each batch; or why this can't be had here."""
    place = shape_folder(folder, *of)
    setting = Setting(
        model=place,
        folder=place,
        dtype="bfloat16",
        device=device,
        threads=len(os.sched_getaffinity(0)),
        random_weights=True,
    )
    backend = create_backend(name)
    reason = backend.availability(setting)
    if reason is not None:
        return {"without": reason}
    cases = tuple(
        [make_prompts(batch, plan.context_tokens, seed) for seed in range(2)] for batch in batches
    )
    job = Job("measure", name, setting, started_s, plan.decode_steps + 1, cases=cases)
    measured = measure(backend, job)
    decode = {}
    for batch, (times,) in zip(batches, measured.generations, strict=True):
        step_s = statistics.median(times.step_times_s[SKIPPED_STEPS:])
        decode[str(batch)] = {"tokens_s": batch / step_s, "step_us": step_s * 1e6}
    return {"decode": decode, "warm_up_s": measured.warm_up_s, "details": measured.details}
