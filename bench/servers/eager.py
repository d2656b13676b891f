"""Turns a checkpoint into the rate at which eager transformers answers one request at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ingot.bench.backends.base import Setting
from ingot.bench.process import run_worker
from ingot.bench.serve.workload import make_ids
from ingot.bench.worker import Job
from ingot.errors import UsageError


@dataclass(frozen=True, slots=True)
class OneAtATime:
    """Requests of one shape, one after the other: no server, no queue, nothing shared."""

    num_requests: int
    prompt_tokens: int
    output_tokens: int
    token_ids: int  # prompts are drawn below it
    threads: int
    dtype: str


def answer_one_at_a_time(path: Path, plan: OneAtATime, seed: int, folder: Path) -> dict[str, float]:
    """Output tokens a second over all requests, their prompts read as well."""
    rng = np.random.default_rng(seed)
    prompts = [  # the first warms up
        [make_ids(rng, plan.prompt_tokens, plan.token_ids)] for _ in range(1 + plan.num_requests)
    ]
    setting = Setting(
        model=path,
        folder=folder,
        dtype=plan.dtype,
        threads=plan.threads,
        max_prompt_tokens=plan.prompt_tokens,
        max_context_tokens=plan.prompt_tokens + plan.output_tokens,
    )
    job = Job(
        "measure", "eager", setting, time.monotonic(), plan.output_tokens, 1, cases=(prompts,)
    )
    outcome = run_worker(job)
    if outcome.measured is None:
        raise UsageError(f"eager failed: {outcome.failed or outcome.unavailable}")
    times = outcome.measured.generations[0]
    seconds = [one.ttft_s + sum(one.step_times_s) for one in times]
    return {
        "duration_s": sum(seconds),
        "output_tokens_per_s": plan.output_tokens * len(times) / sum(seconds),
        "ttft_s": float(np.median([one.ttft_s for one in times])),
        "tpot_s": float(np.median([step for one in times for step in one.step_times_s])),
    }
