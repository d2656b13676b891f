"""CUDA C++ to machine code for a GPU, on a machine that needs neither GPU nor toolkit.

`COMPILERS` are the ways. Each is a module that checks whether it is installed, and turns source and
architecture into a `DeviceBinary`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module

from ingot.compile.cuda.binary import DeviceBinary, KernelResources
from ingot.errors import UsageError

COMPILERS = ("nvrtc", "nvcc")
"""`nvrtc` is NVIDIA's runtime compiler from PyPI, in this process; `nvcc` an installed toolkit."""

_BOUNDS = re.compile(r"(?<=__launch_bounds__)\((\d+)\) (\w+)\(")

Compile = Callable[[str, str], DeviceBinary]


def cuda_compiler(name: str) -> Compile:
    """The function `(source, arch) -> binary` of the compiler of that name; `CompileError` where it
    is not installed."""
    if name not in COMPILERS:
        raise UsageError(f"--cuda-compiler is {name!r}; it is one of {', '.join(COMPILERS)}")
    module = import_module(f"ingot.compile.cuda.{name}")
    module.check_installed()
    compile_source: Compile = module.compile_source
    return compile_source


def compile_without_spills(compile_source: Compile, source: str, arch: str) -> DeviceBinary:
    """Compile; where kernels spill, try once more with more registers for those.

    ptxas may give up registers for a second block on a multiprocessor; told that one block will do,
    it takes what it needs. That can go wrong as well: the one that spills less is taken.
    """
    first = compile_source(source, arch)
    spilling = {kernel.name for kernel in first.kernels if kernel.spill_bytes}
    if not spilling:
        return first
    roomy = _BOUNDS.sub(
        lambda match: f"({match[1]}, 1) {match[2]}(" if match[2] in spilling else match[0], source
    )
    return min(first, compile_source(roomy, arch), key=_spilled_bytes)


def _spilled_bytes(binary: DeviceBinary) -> int:
    return sum(kernel.spill_bytes for kernel in binary.kernels)


__all__ = [
    "COMPILERS",
    "Compile",
    "DeviceBinary",
    "KernelResources",
    "compile_without_spills",
    "cuda_compiler",
]
