"""Says what this machine is, as far as an artifact's target asks, and what it lacks."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact.gpu_status import hint_for
from ingot.runtime.artifact.manifest import TargetRecord, cubin_name, ptx_name
from ingot.targets import load_targets
from ingot.targets.cpu import detect_cpu

CUDA_DRIVER = "libcuda.so.1"
# The driver's numbers for the two halves of a compute capability.
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class Machine:
    """`cpu_features` are spelled as in `/proc/cpuinfo`; `cuda_arch` is like `sm_90`. Where a driver
    gives no GPU, `cuda_status` is its error."""

    system: str
    architecture: str
    cpu_features: frozenset[str]
    cuda_arch: str | None = None
    cuda_status: int = 0


def detect_machine() -> Machine:
    system, architecture = platform.system(), platform.machine()
    features = detect_cpu().features if system == "Linux" else frozenset()
    arch, status = _ask_driver()
    return Machine(system, architecture, features, arch, status)


def detect_cuda_arch() -> str | None:
    """The architecture of the first GPU, by the driver alone; None without driver or GPU."""
    return _ask_driver()[0]


def _ask_driver() -> tuple[str | None, int]:
    """The architecture of the first GPU, and the driver's error where it gives none."""
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return None, 0
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if status := driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None, int(status)
    driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device)
    return f"sm_{major.value}{minor.value}", 0


def _capability(arch: str) -> tuple[int, int]:
    """`sm_103` -> (10, 3). The `a` of `sm_90a` says that no other GPU runs its code."""
    return divmod(int(arch.removeprefix("sm_").removesuffix("a")), 10)


def device_code_for(gpu: str, archs: Sequence[str]) -> str | None:
    """The file with the kernels that a GPU runs, of an artifact made for `archs` (oldest first).

    Machine code runs on its own generation, from its own version on; the assembly of the newest
    is compiled by the driver of any later GPU.
    """
    major, minor = _capability(gpu)
    for arch in reversed(archs):
        its_major, its_minor = _capability(arch)
        if its_major == major and (
            its_minor == minor if arch.endswith("a") else its_minor <= minor
        ):
            return cubin_name(arch)
    if archs and not archs[-1].endswith("a") and _capability(archs[-1]) <= (major, minor):
        return ptx_name(archs[-1])
    return None


def check_target(target: TargetRecord, machine: Machine) -> None:
    """Raise one sentence that says why this machine can't run the artifact, if it can't."""
    if target.kind == "cuda":
        _check_cuda(target, machine)
    else:
        _check_cpu(target, machine)


def _check_cuda(target: TargetRecord, machine: Machine) -> None:
    if machine.cuda_status:
        raise ArtifactTargetError(
            f"this artifact needs an NVIDIA GPU ({target.cuda_arch}), and this machine's driver "
            f"gives none: its error is {machine.cuda_status}",
            hint=hint_for(machine.cuda_status),
        )
    if machine.cuda_arch is None:
        raise ArtifactTargetError(
            f"this artifact needs an NVIDIA GPU ({target.cuda_arch}); this machine has none",
            hint="compile the model for this machine with `--target cpu`",
        )
    archs = target.cuda_archs or (target.cuda_arch,)
    if device_code_for(machine.cuda_arch, archs) is None:
        raise ArtifactTargetError(
            f"this artifact is for {', '.join(archs)} GPUs; this machine's is {machine.cuda_arch}",
            hint=_how_to_compile_for(machine.cuda_arch, archs),
        )


def cuda_target_for(gpu: str) -> str | None:
    """The name of the target whose code a GPU runs best; None for one that is older than all."""
    fits = [arch for arch in _known_archs() if device_code_for(gpu, (arch,)) is not None]
    return f"cuda:{max(fits, key=_capability)}" if fits else None


def _known_archs() -> list[str]:
    return [t.cuda_arch for t in load_targets().values() if t.kind == "cuda"]


def _how_to_compile_for(gpu: str, archs: Sequence[str]) -> str:
    best = cuda_target_for(gpu)
    if best is None:
        oldest = min(_known_archs(), key=_capability)
        return f"Ingot has no target for it; the oldest is {oldest}"
    return f"compile the model again with `--target {','.join((best, *archs))}`"


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
