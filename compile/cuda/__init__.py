"""CUDA C++ to machine code for a GPU, on a machine that needs neither GPU nor toolkit.

`COMPILERS` are the ways; each turns source and architecture into a `DeviceBinary`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ingot.compile.cuda.binary import DeviceBinary, KernelResources
from ingot.errors import UsageError

COMPILERS = ("nvrtc", "nvcc")
"""`nvrtc` is NVIDIA's runtime compiler from PyPI, in this process; `nvcc` an installed toolkit."""

Compile = Callable[[str, str], DeviceBinary]


def cuda_compiler(name: str) -> Compile:
    """The function `(source, arch) -> binary` of the compiler of that name."""
    if name not in COMPILERS:
        raise UsageError(f"--cuda-compiler is {name!r}; it is one of {', '.join(COMPILERS)}")
    compile_source: Compile = import_module(f"ingot.compile.cuda.{name}").compile_source
    return compile_source


__all__ = ["COMPILERS", "Compile", "DeviceBinary", "KernelResources", "cuda_compiler"]
