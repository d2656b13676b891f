"""Reads of all of a large buffer, one at a time: what memory gives at that moment."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ingot.bench.limits.measure import build_library
from ingot.bench.limits.measurements import machine_sizes, memory_read
from ingot.runtime.vm import VirtualMachine, as_tensor
from ingot.targets import best_cpu_target, detect_cpu


class MemoryReader:
    """What `ingot bench limits` calls a memory read, to be taken in turns with something else.

    The bandwidth of a shared machine may halve from one minute to the next.
    """

    def __init__(self, threads: int) -> None:
        target = best_cpu_target(detect_cpu())
        measurement = memory_read(target, threads, machine_sizes(target))
        self.num_bytes = measurement.amount
        self._arguments = [as_tensor(array) for array in measurement.arguments]
        self._function = measurement.name.replace(" ", "_")
        with tempfile.TemporaryDirectory(prefix="ingot-limits-") as folder:
            library = Path(folder) / "read.so"
            build_library([measurement], target, library)
            self._vm = VirtualMachine(library, threads)

    def __call__(self) -> None:
        self._vm.call(self._function, *self._arguments)
