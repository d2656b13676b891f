"""Turns a call of compiled code into a graph that can be launched again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.runtime.cuda.driver import Graph, Stream, capture
from ingot.runtime.cuda.scratch import Scratch
from ingot.runtime.vm import VirtualMachine

Call = Callable[..., Any]  # of a function's name and its arguments


@dataclass(frozen=True, slots=True)
class Captured:
    """A graph, what the call gave, and the memory that its kernels write to beside scratch."""

    graph: Graph
    result: Any
    kept: list[Any]
    num_bytes: int


class Recorder:
    """Captures calls of one machine on one stream."""

    def __init__(self, vm: VirtualMachine, code_path: Path, stream: Stream) -> None:
        # A machine of its own: it is watched, which would slow down the steps without a graph.
        self._vm = vm.twin()
        self._vm.observe(self._watch)
        self._code_path = code_path
        self._stream = stream
        self._storages: list[tuple[Any, int]] = []

    def capture(self, scratch: Scratch, work: Callable[[Call], Any]) -> Captured:
        """The graph of the calls that `work` makes by what it is given.

        They run twice, which loads their kernels and takes their memory, and once more to see what
        is launched: a graph can't be captured where memory is taken from the GPU. The pool has
        every block of the first run back when the second is over, since the machine holds what a
        call gave until the next one, and the third gets the same. They are kept, since the pool
        gives what it has back to the GPU when memory runs out. The arguments must be on the stream,
        and stay where they are.
        """
        with scratch.serves(self._code_path):
            with self._stream.takes_kernels():
                for _ in range(2):
                    work(self._vm.call)
                    self._storages = []
            graph, result = capture(lambda _: work(self._vm.call))
            kept, self._storages = self._storages, []
        # What the runs took goes back to a pool that other engines take from.
        self._stream.wait()
        return Captured(graph, result, kept, sum(size for _, size in kept))

    def _watch(
        self, _function: Any, name: str, before: bool, result: Any, *arguments: Sequence[Any]
    ) -> None:
        if name == "vm.builtin.alloc_storage" and not before:
            _machine, (num_bytes,), *_ = arguments
            self._storages.append((result, int(num_bytes)))
