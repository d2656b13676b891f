"""Says what this machine is, as far as an artifact's target asks."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact.manifest import TargetRecord


@dataclass(frozen=True, slots=True)
class Machine:
    """`cpu_features` are spelled as in `/proc/cpuinfo`; `cuda_arch` is like `sm_90`."""

    system: str
    architecture: str
    cpu_features: frozenset[str]
    cuda_arch: str | None = None


def detect_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    flags: frozenset[str] = frozenset()
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        rows = (line.partition(":") for line in lines)
        flags = next((frozenset(v.split()) for k, _, v in rows if k.strip() == "flags"), flags)
    return Machine(platform.system(), platform.machine(), flags)


def check_target(target: TargetRecord, machine: Machine) -> None:
    """Raise one sentence that says why this machine can't run the artifact, if it can't."""
    if target.kind == "cuda":
        if machine.cuda_arch is None:
            raise ArtifactTargetError(
                f"this artifact needs an NVIDIA GPU ({target.cuda_arch}); this machine has none",
                hint="compile the model for this machine with `--target cpu`",
            )
        if machine.cuda_arch != target.cuda_arch:
            raise ArtifactTargetError(
                f"this artifact is for {target.cuda_arch} GPUs, and this machine has "
                f"{machine.cuda_arch}"
            )
        return
    if (machine.system, machine.architecture) != ("Linux", "x86_64"):
        raise ArtifactTargetError(
            f"this artifact ({target.name}) needs Linux on x86_64, and this machine is "
            f"{machine.system} on {machine.architecture}"
        )
    missing = [feature for feature in target.features if feature not in machine.cpu_features]
    if missing:
        raise ArtifactTargetError(
            f"this artifact ({target.name}) needs a CPU with {', '.join(missing)}, "
            "which this machine's lacks",
            hint="compile the model for an older target; `ingot targets` lists them",
        )
