"""Stage, done and total from the library to progress bars on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, int, int], None]  # stage, steps done, steps in all


@contextmanager
def show_progress() -> Iterator[Report]:
    """Bars on a terminal; elsewhere one line when a stage ends, so that logs stay readable.

    A stage begins with (0, 1) and ends with (1, 1); in between it may count steps of its own.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    console = Console(stderr=True, markup=False, highlight=False)
    tasks: dict[str, TaskID] = {}
    totals: dict[str, int] = {}
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            ended = (done, total) == (1, 1)
            totals[stage] = max(total, totals.get(stage, 1))
            completed = totals[stage] if ended else done
            progress.update(tasks[stage], completed=completed, total=totals[stage])
            if ended and not console.is_terminal:
                console.print(f"{stage}: done")

        yield report
