"""CUDA C++ to a shared library that runs it on the CPU, and the driver that launches it there.

The generated source of a kernel is compiled by g++ against `device.h`; the path of the library
stands in for the cubin. A process that is started with `environment(...)` finds `libcuda.so.1` and
`libcudart.so.13`, made of the other files here: TVM's own runtime for CUDA and all of Ingot run on
top of them unchanged. It shows that names, arguments, grids, barriers, numbers and each access to
memory are right (`memory.cc`); it can't show what only a real GPU refuses, nor how fast anything
is.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from ingot.compile.cuda import DeviceBinary, KernelResources

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_DEFINITION = re.compile(r'extern "C" __global__ void __launch_bounds__\(\d+\) (\w+)\((.*?)\) \{')
_SHARED = re.compile(r"__shared__ alignas\(64\) (\w+) (\w+)\[(\d+)\];")
_DYNAMIC_SHARED = re.compile(r"extern __shared__ __align__\(64\) (\w+) (\w+)\[\];")
_WAITS = re.compile(
    r"__syncthreads\(|__shfl_|ingot_mma|ingot_warpgroup|ingot_load_transposed|ingot_copy_async"
)
# Of the device functions before the kernels, those without assembly run as they are.
_FUNCTION = re.compile(r"^INGOT_DEVICE (?:.*\}|(?:.*\n)+?\})$", re.MULTILINE)
_EMULATOR = ("grid.cc", "order.cc", "memory.cc", "intrinsics.cc", "products.cc")
# Fortified longjmp refuses to jump between stacks.
_FLAGS = ("-O1", "-w", "-fPIC", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", f"-I{HERE}")
# Makes a call of each access to memory; where its library is linked, it is that which is called.
_KERNEL_FLAGS = ("-std=c++17", "-g1", "-fsanitize=thread")


def need_compiler() -> str:
    """The C++ compiler; skips the test where there is none."""
    for name in ("g++", "c++", "clang++"):
        if found := shutil.which(name):
            return found
    pytest.skip("emulating a GPU needs a C++ compiler")


def emulate(source: str, folder: Path) -> Path:
    """Compile CUDA C++ of TVM's for the CPU."""
    start = source.index('extern "C" __global__')
    functions = (f"{match[0]}\n" for match in _FUNCTION.finditer(source[:start]))
    plain = [function for function in functions if "asm" not in function]
    code = _DYNAMIC_SHARED.sub(r"\1 *\2 = (\1 *)dynamic_shared();", source[start:])
    found = list(_DEFINITION.finditer(code))
    ends = [match.start() for match in found[1:]] + [len(code)]
    pieces = ['#include "device.h"\n', *plain, code[: found[0].start()]]
    for match, end in zip(found, ends, strict=True):
        pieces.append(_kernel(match, code[match.start() : end]))
    text = "".join(pieces)
    library = folder / f"kernels-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    if library.exists():  # of another model with the same kernels
        return library
    unit, parts = library.with_suffix(".cc"), library.with_suffix(".o")
    unit.write_text(text)
    compiler = need_compiler()
    subprocess.run([compiler, *_KERNEL_FLAGS, *_FLAGS, "-c", "-o", parts, unit], check=True)
    subprocess.run([compiler, "-shared", "-o", library, parts], check=True)
    return library


def _kernel(definition: re.Match[str], code: str) -> str:
    """A kernel, and what the driver finds of it."""
    name, parameters = definition[1], definition[2].split(", ")
    types = [p.rsplit(" ", 1)[0].replace("__restrict__", "") for p in parameters]
    values = ", ".join(f"*({t}*)arguments[{i}]" for i, t in enumerate(types))
    arrays: list[str] = []

    def place(array: re.Match[str]) -> str:
        arrays.append(f"{array[3]} * sizeof({array[1]})")
        return f"{array[1]} *{array[2]} = ({array[1]} *)shared_array({len(arrays) - 1});"

    waits = "true" if _WAITS.search(code) else "false"
    sizes = ", ".join(f"sizeof({t})" for t in types)
    return (
        f"{_SHARED.sub(place, code)}\n"
        f'extern "C" const unsigned sizes_{name}[] = {{{sizes}, 0}};\n'
        f'__attribute__((no_sanitize("thread"))) static void call_{name}(void **arguments) '
        f"{{ {name}({values}); }}\n"
        f"static const unsigned arrays_{name}[] = {{{', '.join([*arrays, '0'])}}};\n"
        f"static const Kernel kernel_{name} = "
        f'{{"{name}", call_{name}, {waits}, arrays_{name}}};\n'
        f'extern "C" void launch_{name}(void **arguments, const unsigned *shape) '
        f"{{ run_grid(kernel_{name}, arguments, shape); }}\n"
    )


def compile_source(source: str, folder: Path) -> DeviceBinary:
    """In place of NVRTC: the "cubin" is the library's path."""
    library = str(emulate(source, folder)).encode() + b"\0"
    names = sorted({match[1] for match in _DEFINITION.finditer(source)})
    return DeviceBinary(library, library, tuple(KernelResources(name, 0, 0, 0) for name in names))


@cache
def _built_driver() -> Path:
    """The two libraries, for all that this process starts."""
    scratch = tempfile.TemporaryDirectory()
    atexit.register(scratch.cleanup)
    folder = Path(scratch.name)
    versions = folder / "versions.map"
    versions.write_text("libcudart.so.13 { global: *; };\n")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("emulating a GPU needs a C compiler")

    def compile_part(compiler: str, name: str, *flags: str) -> str:
        part = str(folder / f"{name}.o")
        subprocess.run([compiler, *flags, *_FLAGS, "-c", "-o", part, HERE / name], check=True)
        return part

    parts = [compile_part(need_compiler(), name, "-std=c++17") for name in _EMULATOR]
    parts.append(compile_part(compiler, "driver.c"))
    runtime = compile_part(compiler, "runtime.c")
    for name, contents in (
        ("libcuda.so.1", parts),
        (
            "libcudart.so.13",
            [runtime, f"-Wl,--version-script={versions}", str(folder / "libcuda.so.1")],
        ),
    ):
        target = ["-shared", f"-Wl,-soname,{name}", "-o", str(folder / name), *contents, "-ldl"]
        subprocess.run([need_compiler(), *target], check=True)
    return folder


def build_driver(folder: Path) -> Path:
    """A folder with the two libraries."""
    for name in ("libcuda.so.1", "libcudart.so.13"):
        shutil.copy(_built_driver() / name, folder / name)
    return folder


def environment(driver: Path, **more: str) -> dict[str, str]:
    """For a process that shall find the emulated GPU."""
    path = os.environ.get("LD_LIBRARY_PATH")
    return {
        **os.environ,
        "LD_LIBRARY_PATH": f"{driver}:{path}" if path else str(driver),
        **more,
    }


def run_emulated(driver: Path, script: str, *arguments: str, **variables: str) -> str:
    """What a script prints in a process that finds the emulated GPU."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment(driver, **variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
