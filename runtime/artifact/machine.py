"""Says what this machine is, as far as an artifact's target asks, and what it lacks."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass

from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact.manifest import TargetRecord
from ingot.targets.cpu import detect_cpu

CUDA_DRIVER = "libcuda.so.1"
# The driver's numbers for the two halves of a compute capability.
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class Machine:
    """`cpu_features` are spelled as in `/proc/cpuinfo`; `cuda_arch` is like `sm_90`."""

    system: str
    architecture: str
    cpu_features: frozenset[str]
    cuda_arch: str | None = None


def detect_machine() -> Machine:
    system, architecture = platform.system(), platform.machine()
    features = detect_cpu().features if system == "Linux" else frozenset()
    return Machine(system, architecture, features, detect_cuda_arch())


def detect_cuda_arch() -> str | None:
    """The architecture of the first GPU, by the driver alone; None without driver or GPU."""
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device)
    return f"sm_{major.value}{minor.value}"


def check_target(target: TargetRecord, machine: Machine) -> None:
    """Raise one sentence that says why this machine can't run the artifact, if it can't."""
    if target.kind == "cuda":
        _check_cuda(target, machine)
    else:
        _check_cpu(target, machine)


def _check_cuda(target: TargetRecord, machine: Machine) -> None:
    if machine.cuda_arch is None:
        raise ArtifactTargetError(
            f"this artifact needs an NVIDIA GPU ({target.cuda_arch}); this machine has none",
            hint="compile the model for this machine with `--target cpu`",
        )
    if machine.cuda_arch != target.cuda_arch:
        raise ArtifactTargetError(
            f"this artifact is for {target.cuda_arch} GPUs; this machine's is {machine.cuda_arch}"
        )


def _check_cpu(target: TargetRecord, machine: Machine) -> None:
    if (machine.system, machine.architecture) != ("Linux", target.architecture):
        raise ArtifactTargetError(
            f"this artifact ({target.name}) needs Linux on {target.architecture}; this machine is "
            f"{machine.system} on {machine.architecture}"
        )
    missing = [feature for feature in target.features if feature not in machine.cpu_features]
    if missing:
        raise ArtifactTargetError(
            f"this artifact ({target.name}) needs a CPU with {', '.join(missing)}, "
            "which this machine's lacks",
            hint="compile the model for an older target; `ingot targets` lists them",
        )
