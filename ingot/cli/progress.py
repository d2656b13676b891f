"""Steps and bytes done of all, as the library tells them, to progress bars on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

Report = Callable[[str, int, int], None]  # stage, steps done, steps in all
Sent = Callable[[int, int], None]  # bytes done, bytes in all


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


@contextmanager
def show_upload() -> Iterator[Sent]:
    """A bar for the weights on their way to a GPU, on a terminal. A CPU is sent none: no bar, and
    none of the time that it takes to import one."""
    with ExitStack() as stack:
        bars: list[Sent] = []

        def sent(done_bytes: int, total_bytes: int) -> None:
            if not bars:
                bars.append(stack.enter_context(_show_bytes("weights")))
            bars[0](done_bytes, total_bytes)

        yield sent


@contextmanager
def _show_bytes(what: str) -> Iterator[Sent]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
