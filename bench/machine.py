"""Describes the machine that a benchmark ran on: from /proc and the drivers to plain data."""

import os
import platform
import resource
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ingot.targets import detect_cpu

# of the dozens of CPU flags, those that decide the speed of a language model
FEATURES = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "sve",
)
PACKAGES = (
    "ingot",
    "apache-tvm",
    "apache-tvm-ffi",
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
)


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str
    physical_cores: int
    logical_cores: int
    usable_cores: int  # logical cores that this process may run on
    memory_bytes: int
    features: tuple[str, ...]
    gpus: tuple[str, ...]
    system: str
    python: str
    load_average: float  # over the last minute, when the run began: other work disturbs timings


def describe_machine() -> Machine:
    import psutil

    cpu = detect_cpu()
    return Machine(
        cpu=cpu.model_name,
        physical_cores=psutil.cpu_count(logical=False) or 1,
        logical_cores=psutil.cpu_count() or 1,
        usable_cores=cpu.num_cores,
        memory_bytes=psutil.virtual_memory().total,
        features=tuple(feature for feature in FEATURES if feature in cpu.features),
        gpus=list_gpus(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        load_average=round(os.getloadavg()[0], 2),
    )


def count_usable_cores() -> int:
    """Logical cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def default_threads() -> int:
    """As many threads as this process may use physical cores: a second one a core rarely helps."""
    import psutil

    return min(psutil.cpu_count(logical=False) or 1, count_usable_cores())


def list_gpus() -> tuple[str, ...]:
    rows = query_gpus("name,memory.total,driver_version")
    return tuple(", ".join(row) for row in rows)


def used_device_memory_bytes() -> int | None:
    """Memory in use on the first GPU by all processes; None where there is none to ask."""
    rows = query_gpus("memory.used")
    return int(rows[0][0].split()[0]) << 20 if rows else None


def query_gpus(fields: str) -> list[list[str]]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return []
    return [line.split(", ") for line in done.stdout.splitlines() if line]


def installed_versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def peak_memory_bytes() -> int:
    """The most memory that this process has held since it started its program.

    VmHWM, and ru_maxrss where a sandbox hides that: it starts from the size of the process that
    forked this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
