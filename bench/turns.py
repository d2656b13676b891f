"""Runs the backends' jobs in turns: jobs become outcomes, a backend that fails leaves its turns."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from ingot.bench.process import run_worker
from ingot.bench.worker import Job, Outcome

Run = Callable[[Job], Outcome]


def run_turns(
    jobs: Mapping[str, Job],
    turns: Sequence[Sequence[str]],
    progress: Callable[[str], None],
    run: Run = run_worker,
) -> tuple[dict[str, Outcome], dict[str, list[Outcome]]]:
    """Prepare every backend once, then measure those that can run, turn by turn.

    Returns the outcome of preparing and those of measuring, by backend.
    """
    prepared: dict[str, Outcome] = {}
    for name, job in jobs.items():
        progress(f"{name}: preparing")
        prepared[name] = run(dataclasses.replace(job, kind="prepare", cases=()))
        reason = prepared[name].unavailable or prepared[name].failed
        if reason:
            progress(f"{name}: {reason}")
    measured: dict[str, list[Outcome]] = {name: [] for name in jobs}
    for number, order in enumerate(turns, start=1):
        for name in order:
            before = [prepared[name], *measured[name]]
            if any(outcome.unavailable or outcome.failed for outcome in before):
                continue
            progress(f"{name}: turn {number} of {len(turns)}")
            outcome = run(jobs[name])
            measured[name].append(outcome)
            if outcome.failed:
                progress(f"{name}: {outcome.failed}")
    return prepared, measured
