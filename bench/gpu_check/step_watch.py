"""A runtime's steps to the time that the host waits in them and the time that their graphs take on
the GPU.

The host's own time is a step less what it waits. What a step takes beside the GPU's own time is a
step less its graphs: with work put ahead the host's time is hidden behind them, but for what is
between two steps. Watching graphs puts two events around each, which takes the host a few
microseconds: steps whose length counts are not watched so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

from ingot.runtime.cuda.driver import Event, Graph, Stream


@dataclass(slots=True)
class Waits:
    """Seconds that the host has waited for the GPU."""

    seconds: float = 0.0


@contextmanager
def watch_waits() -> Iterator[Waits]:
    waits = Waits()
    wait_for_event, wait_for_stream = Event.wait, Stream.wait

    def event(self: Event) -> None:
        started = time.perf_counter()
        wait_for_event(self)
        waits.seconds += time.perf_counter() - started

    def stream(self: Stream) -> None:
        started = time.perf_counter()
        wait_for_stream(self)
        waits.seconds += time.perf_counter() - started

    with patch.object(Event, "wait", event), patch.object(Stream, "wait", stream):
        yield waits


@dataclass(slots=True)
class Launches:
    """The graphs that were launched: where each began and ended in its stream."""

    events: list[tuple[Event, Event]] = field(default_factory=list)

    def seconds(self) -> float:
        """What they took on the GPU, when all of them are done."""
        for _, end in self.events:
            end.wait()
        return sum(end.seconds_since(begin) for begin, end in self.events)


@contextmanager
def watch_graphs() -> Iterator[Launches]:
    launches = Launches()
    launch = Graph.launch

    def timed(self: Graph, stream: Stream) -> None:
        begin, end = Event(), Event()
        begin.record(stream)
        launch(self, stream)
        end.record(stream)
        launches.events.append((begin, end))

    with patch.object(Graph, "launch", timed):
        yield launches
