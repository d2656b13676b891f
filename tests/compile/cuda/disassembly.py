"""A cubin to how often each kernel has each instruction, by NVIDIA's own disassembler."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

_KERNEL = re.compile(r"^\.text\.(\w+):$", re.MULTILINE)
# An address, a predicate or none, the name with its modifiers.
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+ )?([A-Z][\w.]*)", re.MULTILINE)


def need_nvdisasm() -> str:
    """The disassembler of the wheel or of a toolkit; skips the test where there is none."""
    spec = find_spec("nvidia.cu13") if find_spec("nvidia") else None
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(place) / "bin/nvdisasm").is_file():
            return str(path)
    if found := shutil.which("nvdisasm"):
        return found
    pytest.skip("nvidia-cuda-nvdisasm is not installed")


class Instructions(Counter[str]):
    """Those of one kernel, by their full names: `HMMA.16816.F32.BF16`."""

    def of(self, name: str) -> int:
        """How many there are of a name and of whatever modifies it."""
        return sum(many for full, many in self.items() if f"{full}.".startswith(f"{name}."))


def disassemble(cubin: bytes, folder: Path) -> dict[str, Instructions]:
    """The instructions of each kernel."""
    path = folder / "kernels.cubin"
    path.write_bytes(cubin)
    command = [need_nvdisasm(), "--print-code", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pieces = _KERNEL.split(text)
    return {
        name: Instructions(_INSTRUCTION.findall(code))
        for name, code in zip(pieces[1::2], pieces[2::2], strict=True)
    }
