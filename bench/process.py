"""Hands a job to a worker process and comes back with its outcome, whatever becomes of it."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ingot.bench.worker import Job, Outcome, job_to_json, outcome_from_json

# every library reads its own
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS")
MAX_REASON_CHARACTERS = 300


def timed_environment(threads: int) -> dict[str, str]:
    """The environment of a process whose start is timed. Python may keep the bytecode of what it
    imports there, as installed packages come with it: else each process compiles all of ours."""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def run_worker(job: Job) -> Outcome:
    """Run `job` to its end; a worker that dies is an outcome with the reason, not an exception.

    The job, the worker's output and its result stay in the backend's folder.
    """
    folder = job.setting.folder
    job_file, result_file, log_file = (
        folder / f"{job.kind}.{suffix}" for suffix in ("job.json", "result.json", "log")
    )
    result_file.unlink(missing_ok=True)
    with log_file.open("w") as log:
        job_file.write_text(job_to_json(dataclasses.replace(job, started=time.monotonic())))
        done = subprocess.run(
            [sys.executable, "-m", "ingot.bench.worker", str(job_file), str(result_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=timed_environment(job.setting.threads),
            check=False,
        )
    if done.returncode == 0:
        return outcome_from_json(result_file.read_text())
    return Outcome(failed=describe_end(done.returncode, log_file))


def describe_end(returncode: int, log_file: Path) -> str:
    """A sentence on a process that didn't finish: its signal or its last words."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        cause = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{cause}"
    return last_words(log_file) or f"it left with status {returncode}"


def last_words(log_file: Path) -> str:
    """The last line that a process wrote, or the beginning of a long one."""
    lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:MAX_REASON_CHARACTERS] if lines else ""
