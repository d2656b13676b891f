"""This machine to a list of findings: what it has, what it lacks, and what to do about it.

Imports nothing of what it looks for: versions come from package metadata, libraries from the
loader.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ingot.targets import TargetError, best_cpu_target, detect_cpu


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `remedy` is empty where nothing needs doing."""

    subject: str
    ok: bool
    value: str
    remedy: str = ""
    required: bool = False  # the base install doesn't work without it


CUDA_VERSION = 13  # of TVM's runtime library for GPUs

BASE = ("apache-tvm", "apache-tvm-ffi", "jinja2", "numpy", "tokenizers")
"""Packages without which no artifact runs."""

EXTRAS = {
    "torch": "compile",
    "transformers": "compile",
    "accelerate": "compile",
    "onnx": "compile",
    "onnxruntime": "bench",
    "onnxscript": "bench",
    "matplotlib": "bench",
    "psutil": "bench",
    "httpx": "bench",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "llguidance": "constrain",
    "ray": "ray",
}
"""Package -> the extra of ingot that installs it. All are imported by the names given here."""

PURPOSES = {
    "compile": "to compile",
    "bench": "to measure",
    "serve": "to serve",
    "ray": "to serve from several replicas",
    "constrain": "to hold outputs to a schema or a grammar",
}


def examine_python() -> Finding:
    ok = sys.version_info >= (3, 11)
    remedy = "" if ok else "install Python 3.11 or newer"
    return Finding("python", ok, platform.python_version(), remedy, required=True)


def examine_cpu() -> Iterator[Finding]:
    try:
        cpu = detect_cpu()
    except TargetError as error:
        yield Finding("cpu", False, error.message, error.hint, required=True)
        return
    yield Finding("cpu", True, f"{cpu.model_name} ({cpu.architecture})")
    yield Finding("cores", True, f"{cpu.num_cores} usable by this process")
    try:
        target = best_cpu_target(cpu)
    except TargetError as error:
        yield Finding("isa", False, error.message, "use a newer CPU", required=True)
        return
    yield Finding("isa", True, f"{target.name}: {target.description}")


def read_meminfo(text: str) -> dict[str, int]:
    """The kernel's `/proc/meminfo`, in bytes."""
    fields = (line.partition(":") for line in text.splitlines())
    return {name: int(value.split()[0]) * 1024 for name, _, value in fields if value.strip()}


def examine_memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    try:
        memory = read_meminfo(meminfo.read_text())
        total, available = memory["MemTotal"], memory["MemAvailable"]
    except (OSError, KeyError) as error:
        return Finding("memory", False, f"unknown: {error}", "check it by hand")
    value = f"{available / 1e9:.1f} GB available of {total / 1e9:.1f} GB"
    ok = available > 2e9
    remedy = "" if ok else "compiling needs the size of the bf16 weights and 2 GB more"
    return Finding("memory", ok, value, remedy)


def install_hint(package: str) -> str:
    """What to type for a package of an extra."""
    extra = EXTRAS[package]
    return f"{PURPOSES[extra]}: pip install 'ingot[{extra}]'"


def examine_package(name: str) -> Finding:
    required = name in BASE
    try:
        return Finding(name, True, metadata.version(name), required=required)
    except metadata.PackageNotFoundError:
        remedy = "pip install ingot" if required else install_hint(name)
        return Finding(name, False, "not installed", remedy, required)


def examine_compiler() -> Finding:
    """The linker of the artifact's library, looked for as TVM does."""
    named = os.environ.get("CXX") or os.environ.get("CC")
    wanted = [named] if named else ["g++", "gcc", "clang++", "clang", "c++", "cc"]
    for name in wanted:
        if path := shutil.which(name):
            return Finding("c compiler", True, path)
    remedy = "to compile: install gcc or clang (it links the artifact's library)"
    return Finding("c compiler", False, f"none of {', '.join(wanted)} on the PATH", remedy)


def examine_cuda_driver() -> Finding:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        remedy = "to run artifacts for a GPU: install NVIDIA's driver; compiling needs none"
        return Finding("cuda driver", False, "libcuda.so.1 not found", remedy)
    version = ctypes.c_int()
    if status := driver.cuInit(0):
        remedy = "the driver is there and no GPU answers: see nvidia-smi"
        return Finding("cuda driver", False, f"cuInit returned {status}", remedy)
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    is_new = major >= CUDA_VERSION
    remedy = f"artifacts run on CUDA {CUDA_VERSION}: install driver 580 or newer"
    return Finding("cuda driver", is_new, f"for CUDA {major}.{minor}", "" if is_new else remedy)


def examine_cuda_runtime() -> Finding:
    """CUDA's runtime library: the system's, else the one of the wheel."""
    name = f"libcudart.so.{CUDA_VERSION}"
    try:
        ctypes.CDLL(name)
    except OSError:
        if path := next(_nvidia_libraries(name), None):
            return Finding("cuda runtime", True, path)
        remedy = f"to run artifacts for a GPU: pip install 'nvidia-cuda-runtime=={CUDA_VERSION}.*'"
        return Finding("cuda runtime", False, f"{name} not found", remedy)
    return Finding("cuda runtime", True, name)


def examine_nvrtc() -> Finding:
    """NVRTC or nvcc compile the kernels of a GPU target."""
    if path := shutil.which("nvcc"):
        return Finding("nvrtc or nvcc", True, path)
    if library := next(_nvidia_libraries("libnvrtc.so*"), None):
        return Finding("nvrtc or nvcc", True, library)
    remedy = "to compile for a GPU: pip install 'ingot[nvrtc]'"
    return Finding("nvrtc or nvcc", False, "not found", remedy)


def _nvidia_libraries(pattern: str) -> Iterator[str]:
    """Those of this name in NVIDIA's wheels."""
    namespace = find_spec("nvidia")
    for folder in namespace.submodule_search_locations or () if namespace else ():
        yield from map(str, sorted(Path(folder).glob(f"*/lib/{pattern}")))


def examine() -> list[Finding]:
    """Everything, in the order in which a newcomer needs it."""
    return [
        examine_python(),
        *examine_cpu(),
        examine_memory(),
        *(examine_package(name) for name in (*BASE, *EXTRAS)),
        examine_compiler(),
        examine_cuda_driver(),
        examine_cuda_runtime(),
        examine_nvrtc(),
    ]
