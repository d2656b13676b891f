"""Kernels and their tensors to seconds on this machine's GPU: a graph of the calls, timed by
events, so that nothing of what the host does is in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ingot.runtime.cuda.driver import Event, Graph, Stream
from ingot.runtime.cuda.driver import capture as capture_graph

Copies = Sequence[Sequence[Sequence[Any]]]
"""For each copy of the tensors, the arguments of each call."""


def capture(stream: Stream, functions: Sequence[Callable[..., Any]], copies: Copies) -> Graph:
    """All functions once for each copy of their tensors, in one graph."""

    def run() -> None:
        for calls in copies:
            for function, tensors in zip(functions, calls, strict=True):
                function(*tensors)

    run()  # loads the kernels and takes the memory that they need beside
    graph, _ = capture_graph(lambda _: run())
    return graph


def in_turns(graphs: Sequence[Graph], stream: Stream, repetitions: int) -> list[list[float]]:
    """Seconds of each graph, one after the other, after a turn that isn't timed."""
    times: list[list[float]] = [[] for _ in graphs]
    begin, end = Event(), Event()
    for turn in range(repetitions + 1):
        for graph, of_graph in zip(graphs, times, strict=True):
            begin.record(stream)
            graph.launch(stream)
            end.record(stream)
            end.wait()
            if turn:
                of_graph.append(end.seconds_since(begin))
    return times


def copies_to_fill(cache_bytes: int, num_bytes: int, most: int) -> int:
    """How many copies of tensors fill a cache twice, so that none is there at its next turn."""
    return min(most, -(-2 * cache_bytes // max(1, num_bytes)) + 1)
