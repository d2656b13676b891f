"""What ptxas says of its work to one record a kernel: registers, shared memory, spills."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENTRY = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True)
class KernelResources:
    """What one thread (registers, spills) and one block (static shared memory) of a kernel take."""

    name: str
    registers: int
    shared_bytes: int
    spill_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceBinary:
    """What one architecture runs: machine code, the assembly that it was made of, and the
    resources of its kernels in order of their names."""

    cubin: bytes
    ptx: bytes
    kernels: tuple[KernelResources, ...]


def parse_resources(log: str) -> tuple[KernelResources, ...]:
    """Read the output of `ptxas -v`: for each entry a line of spills, then one of what is used."""
    found: dict[str, KernelResources] = {}
    name, spills = "", 0
    for line in log.splitlines():
        if match := _ENTRY.search(line):
            name, spills = match[1], 0
        elif match := _SPILLS.search(line):
            spills = int(match[1])
        elif name and (match := _REGISTERS.search(line)):
            shared = _SHARED.search(line)
            shared_bytes = int(shared[1]) if shared else 0
            found[name] = KernelResources(name, int(match[1]), shared_bytes, spills)
            name = ""
    return tuple(found[name] for name in sorted(found))
