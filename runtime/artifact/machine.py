"""Says what this machine is, as far as an artifact's target asks, and what it lacks."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact.gpu_status import hint_for
from ingot.runtime.artifact.manifest import KernelRecord, TargetRecord, cubin_name, ptx_name
from ingot.targets import Target, load_targets, resolve_target
from ingot.targets.cpu import detect_cpu

CUDA_DRIVER = "libcuda.so.1"
# The driver's numbers for the two halves of a compute capability.
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
# And for the shared memory that one block gets if it asks for it.
BLOCK_SHARED_BYTES = 97


@dataclass(frozen=True, slots=True)
class Machine:
    """`cpu_features` are spelled as in `/proc/cpuinfo`; `cuda_arch` is like `sm_90`, and
    `block_shared_bytes` what a block gets of that GPU's shared memory, at most. Where a driver
    gives no GPU, `cuda_status` is its error."""

    system: str
    architecture: str
    cpu_features: frozenset[str]
    cuda_arch: str | None = None
    cuda_status: int = 0
    block_shared_bytes: int = 0


def detect_machine() -> Machine:
    system, architecture = platform.system(), platform.machine()
    features = detect_cpu().features if system == "Linux" else frozenset()
    return Machine(system, architecture, features, *_ask_driver())


def detect_cuda_arch() -> str | None:
    """The architecture of the first GPU, by the driver alone; None without driver or GPU."""
    return _ask_driver()[0]


def _ask_driver() -> tuple[str | None, int, int]:
    """What it says of the first GPU: the architecture or None, its error where it gives none, and
    the shared memory of a block."""
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return None, 0, 0
    device = ctypes.c_int()
    if status := driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None, int(status), 0

    def attribute(number: int) -> int:
        found = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(found), number, device)
        return found.value

    arch = f"sm_{attribute(CAPABILITY_MAJOR)}{attribute(CAPABILITY_MINOR)}"
    return arch, 0, attribute(BLOCK_SHARED_BYTES)


def _capability(arch: str) -> tuple[int, int]:
    """`sm_103` -> (10, 3). The `a` of `sm_90a` says that no other GPU runs its code."""
    return divmod(int(arch.removeprefix("sm_").removesuffix("a")), 10)


def device_code_for(gpu: str, archs: Sequence[str]) -> str | None:
    """The file with the kernels that a GPU runs, of an artifact made for `archs` (oldest first).

    Machine code runs on its own generation, from its own version on; the assembly of the newest
    is compiled by the driver of any later GPU.
    """
    arch = _arch_for(gpu, archs)
    if arch is None:
        return None
    return cubin_name(arch) if _runs_machine_code(gpu, arch) else ptx_name(arch)


def _arch_for(gpu: str, archs: Sequence[str]) -> str | None:
    """The architecture whose code the GPU runs, be it machine code or assembly."""
    for arch in reversed(archs):
        if _runs_machine_code(gpu, arch):
            return arch
    for newest in archs[-1:]:
        if not newest.endswith("a") and _capability(newest) <= _capability(gpu):
            return newest
    return None


def _runs_machine_code(gpu: str, arch: str) -> bool:
    (major, minor), (its_major, its_minor) = _capability(gpu), _capability(arch)
    if arch.endswith("a"):
        return (major, minor) == (its_major, its_minor)
    return major == its_major and minor >= its_minor


def check_target(
    target: TargetRecord, machine: Machine, kernels: Sequence[KernelRecord] = ()
) -> None:
    """Raise one sentence that says why this machine can't run the artifact, if it can't. `kernels`
    are those of an artifact for GPUs."""
    if target.kind == "cuda":
        _check_cuda(target, machine, kernels)
    else:
        _check_cpu(target, machine)


def _check_cuda(target: TargetRecord, machine: Machine, kernels: Sequence[KernelRecord]) -> None:
    if machine.cuda_status:
        raise ArtifactTargetError(
            f"this artifact needs an NVIDIA GPU ({target.cuda_arch}), and this machine's driver "
            f"gives none: its error is {machine.cuda_status}",
            hint=hint_for(machine.cuda_status),
        )
    gpu = machine.cuda_arch
    if gpu is None:
        raise ArtifactTargetError(
            f"this artifact needs an NVIDIA GPU ({target.cuda_arch}); this machine has none",
            hint="compile the model for this machine with `--target cpu`",
        )
    archs = target.cuda_archs or (target.cuda_arch,)
    arch = _arch_for(gpu, archs)
    if arch is None:
        raise ArtifactTargetError(
            f"this artifact is for {', '.join(archs)} GPUs; this machine's is {gpu}",
            hint=_how_to_compile_for(machine, archs),
        )
    most = max((kernel.shared_bytes for kernel in kernels if kernel.arch == arch), default=0)
    if most > machine.block_shared_bytes:
        raise ArtifactTargetError(
            f"this artifact's kernels for {arch} take up to {most:,} bytes of shared memory; this "
            f"machine's GPU ({gpu}) has {machine.block_shared_bytes:,}",
            hint=_how_to_compile_for(machine, archs),
        )


def cuda_target_for(machine: Machine) -> str | None:
    """The name of the target whose code the machine's GPU runs best; None for one that is older
    than all, or where there is none.

    Some GPUs have less shared memory than older ones: theirs is the best of the targets whose
    kernels find room.
    """
    fits = [target for target in load_targets().values() if runs_gpu_code(machine, target)]
    return max(fits, key=lambda target: _capability(target.cuda_arch)).name if fits else None


def resolve_target_here(name: str) -> Target:
    """A target by name, as `resolve_target` finds it; but `cuda` alone is that of this machine's
    GPU where there is one."""
    return resolve_target((cuda_target_for(detect_machine()) or name) if name == "cuda" else name)


def runs_gpu_code(machine: Machine, target: Target) -> bool:
    """Whether the machine has a GPU that runs all that may be compiled for a target."""
    return (
        machine.cuda_arch is not None
        and device_code_for(machine.cuda_arch, target.archs) is not None
        and target.shared_memory_bytes <= machine.block_shared_bytes
    )


def _how_to_compile_for(machine: Machine, archs: Sequence[str]) -> str:
    best = cuda_target_for(machine)
    if best is None:
        known = [t.cuda_arch for t in load_targets().values() if t.kind == "cuda"]
        return f"Ingot has no target for it; the oldest is {min(known, key=_capability)}"
    # Code that one GPU alone runs is not compiled beside other code.
    others = () if any(arch.endswith("a") for arch in archs) else archs
    return f"compile the model again with `--target {','.join((best, *others))}`"


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
