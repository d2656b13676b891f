"""Runs one backend in a process of its own: a job in JSON becomes figures in JSON.

`python -m ingot.bench.worker JOB RESULT`. A process has its own peak memory, thread pools and
allocator, and its load time counts from its start as a user would meet it. Only what is cheap is
imported here: whatever the backend imports is part of its load time.
"""

import dataclasses
import gc
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ingot.bench.backends import create_backend
from ingot.bench.backends.base import Backend, GenerationTimes, Setting
from ingot.bench.machine import peak_memory_bytes, used_device_memory_bytes
from ingot.errors import IngotError

Batches = list[list[list[int]]]


@dataclass(frozen=True, slots=True)
class Job:
    kind: Literal["prepare", "measure"]
    backend: str
    setting: Setting
    started: float  # time.monotonic() of the parent, right before this process was made
    new_tokens: int = 1
    warm_ups: int = 1  # the first batches of every case, untimed
    cases: tuple[Batches, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    load_s: float
    first_token_s: float
    warm_up_s: float
    peak_memory_bytes: int
    peak_device_memory_bytes: int | None
    details: dict[str, str]
    generations: tuple[tuple[GenerationTimes, ...], ...]  # timed ones, by case


@dataclass(frozen=True, slots=True)
class Outcome:
    """Either a reason, or what the job was for."""

    unavailable: str | None = None
    failed: str | None = None
    prepare_s: float | None = None
    measured: Measured | None = None


def run_job(job: Job) -> Outcome:
    backend = create_backend(job.backend)
    try:
        if job.kind == "measure":
            return Outcome(measured=measure(backend, job))
        reason = backend.availability(job.setting)
        if reason is not None:
            return Outcome(unavailable=reason)
        start = time.perf_counter()
        backend.prepare(job.setting)
        return Outcome(prepare_s=time.perf_counter() - start)
    except IngotError as error:
        return Outcome(failed=str(error))


def measure(backend: Backend, job: Job) -> Measured:
    on_device = job.setting.device != "cpu"
    device_memory_before = used_device_memory_bytes() if on_device else None
    backend.load(job.setting)
    load_s = time.monotonic() - job.started
    first_token_s: float | None = None
    warm_up_s = 0.0
    generations = []
    for batches in job.cases:
        for prompts in batches[: job.warm_ups]:
            start = time.monotonic()
            times = backend.generate(prompts, job.new_tokens)
            warm_up_s += time.monotonic() - start
            if first_token_s is None:
                first_token_s = start + times.ttft_s - job.started
        timed = []
        for prompts in batches[job.warm_ups :]:
            gc.collect()  # not in the middle of a timed step
            timed.append(backend.generate(prompts, job.new_tokens))
        generations.append(tuple(timed))
    assert first_token_s is not None
    # the backends' allocators keep what they took, so that memory at the end is the peak
    device_memory = used_device_memory_bytes() if on_device else None
    measured = Measured(
        load_s=load_s,
        first_token_s=first_token_s,
        warm_up_s=warm_up_s,
        peak_memory_bytes=peak_memory_bytes(),
        peak_device_memory_bytes=(
            device_memory - device_memory_before
            if device_memory is not None and device_memory_before is not None
            else None
        ),
        details=backend.describe(),
        generations=tuple(generations),
    )
    backend.close()
    return measured


def job_to_json(job: Job) -> str:
    return json.dumps(dataclasses.asdict(job), default=str)


def job_from_json(text: str) -> Job:
    content: dict[str, Any] = json.loads(text)
    setting = content.pop("setting")
    for name in ("model", "folder", "artifact"):
        setting[name] = Path(setting[name]) if setting[name] is not None else None
    return Job(setting=Setting(**setting), **content)


def outcome_from_json(text: str) -> Outcome:
    content: dict[str, Any] = json.loads(text)
    measured = content.pop("measured")
    if measured is not None:
        measured["generations"] = tuple(
            tuple(
                GenerationTimes(
                    times["ttft_s"],
                    tuple(times["step_times_s"]),
                    tuple(tuple(row) for row in times["tokens"]),
                )
                for times in case
            )
            for case in measured["generations"]
        )
        measured = Measured(**measured)
    return Outcome(measured=measured, **content)


def main(arguments: list[str]) -> None:
    job_file, result_file = map(Path, arguments)
    outcome = run_job(job_from_json(job_file.read_text()))
    result_file.write_text(json.dumps(dataclasses.asdict(outcome)))


if __name__ == "__main__":
    main(sys.argv[1:])
