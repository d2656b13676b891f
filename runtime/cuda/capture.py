"""Turns a call of compiled code into a graph that can be launched again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.runtime.cuda.driver import Graph, Stream, capture
from ingot.runtime.cuda.scratch import Scratch


@dataclass(frozen=True, slots=True)
class Captured:
    """A graph, and what the call gave."""

    graph: Graph
    result: Any


class Recorder:
    """Captures calls of one library's functions, which take the memory of their tensors."""

    def __init__(self, code_path: Path, stream: Stream) -> None:
        self._code_path = code_path
        self._stream = stream

    def capture(self, scratch: Scratch, work: Callable[[], Any]) -> Captured:
        """The graph of what `work` launches.

        It runs once, which loads its kernels and takes their scratch memory, and once more to see
        what is launched: a graph can't be captured where memory is taken from the GPU. The
        arguments must be on the stream, and stay where they are.
        """
        with scratch.serves(self._code_path):
            with self._stream.takes_kernels():
                work()
            return Captured(*capture(lambda _: work()))
