"""CUDA C++ to a shared library that runs it on the CPU, and the driver that launches it there.

The generated source of a kernel is compiled by g++ against `device.h`; the path of the library
stands in for the cubin. A process that is started with `environment(...)` finds `libcuda.so.1` and
`libcudart.so.13` of `driver.c` and `runtime.c`: TVM's own runtime for CUDA and all of Ingot run on
top of them unchanged. It shows that names, arguments, grids, barriers and numbers are right; it
can't show what only a real GPU refuses, nor how fast anything is.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ingot.compile.cuda import DeviceBinary, KernelResources

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_DEFINITION = re.compile(r'extern "C" __global__ void __launch_bounds__\(\d+\) (\w+)\((.*?)\) \{')
_DYNAMIC_SHARED = re.compile(r"extern __shared__ __align__\(64\) (\w+) (\w+)\[\];")
_WAITS = re.compile(
    r"__syncthreads\(|__shfl_|ingot_mma|ingot_warpgroup|ingot_load_transposed|ingot_copy_async"
)


def need_compiler() -> str:
    """The C++ compiler; skips the test where there is none."""
    for name in ("g++", "c++", "clang++"):
        if found := shutil.which(name):
            return found
    pytest.skip("emulating a GPU needs a C++ compiler")


def emulate(source: str, folder: Path) -> Path:
    """Compile CUDA C++ of TVM's for the CPU."""
    code = source[source.index('extern "C" __global__') :]
    code = _DYNAMIC_SHARED.sub(r"\1 *\2 = (\1 *)dynamic_shared;", code)
    pieces = ['#include "device.h"\n', code]
    found = list(_DEFINITION.finditer(code))
    ends = [match.start() for match in found[1:]] + [len(code)]
    for match, end in zip(found, ends, strict=True):
        name, parameters = match[1], match[2].split(", ")
        types = [p.rsplit(" ", 1)[0].replace("__restrict__", "") for p in parameters]
        values = ", ".join(f"*({t}*)arguments[{i}]" for i, t in enumerate(types))
        waits = "true" if _WAITS.search(code[match.end() : end]) else "false"
        sizes = ", ".join(f"sizeof({t})" for t in types)
        pieces.append(
            f'extern "C" const unsigned sizes_{name}[] = {{{sizes}, 0}};\n'
            f"static void call_{name}(void **arguments) {{ {name}({values}); }}\n"
            f'extern "C" void launch_{name}(void **arguments, const unsigned *shape) '
            f"{{ run_grid(call_{name}, arguments, {waits}, shape); }}\n"
        )
    text = "".join(pieces)
    library = folder / f"kernels-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    if library.exists():  # of another model with the same kernels
        return library
    unit = library.with_suffix(".cc")
    unit.write_text(text)
    flags = ["-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-fno-strict-aliasing", f"-I{HERE}"]
    # Fortified longjmp refuses to jump between stacks.
    flags += ["-U_FORTIFY_SOURCE"]
    subprocess.run([need_compiler(), *flags, "-o", str(library), str(unit)], check=True)
    return library


def compile_source(source: str, folder: Path) -> DeviceBinary:
    """In place of NVRTC: the "cubin" is the library's path."""
    library = str(emulate(source, folder)).encode() + b"\0"
    names = sorted({match[1] for match in _DEFINITION.finditer(source)})
    return DeviceBinary(library, library, tuple(KernelResources(name, 0, 0, 0) for name in names))


def build_driver(folder: Path) -> Path:
    """A folder with the two libraries."""
    versions = folder / "versions.map"
    versions.write_text("libcudart.so.13 { global: *; };\n")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("emulating a GPU needs a C compiler")
    for source, name, more in (
        ("driver.c", "libcuda.so.1", ()),
        (
            "runtime.c",
            "libcudart.so.13",
            (f"-Wl,--version-script={versions}", str(folder / "libcuda.so.1")),
        ),
    ):
        flags = ["-O1", "-w", "-fPIC", "-shared", f"-Wl,-soname,{name}"]
        target = ["-o", str(folder / name), str(HERE / source), *more, "-ldl"]
        subprocess.run([compiler, *flags, *target], check=True)
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
