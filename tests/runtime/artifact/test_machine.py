"""A machine that can't run an artifact is told why in one sentence."""

from pathlib import Path

import pytest

from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact.machine import Machine, check_target, detect_machine
from ingot.runtime.artifact.manifest import TargetRecord

CPU = TargetRecord(name="cpu:a", kind="cpu", features=("avx2", "avx512f"), page_size_tokens=16)
CUDA = TargetRecord(name="cuda:sm_90", kind="cuda", cuda_arch="sm_90", page_size_tokens=16)


def machine(*features: str, cuda_arch: str | None = None) -> Machine:
    return Machine("Linux", "x86_64", frozenset(features), cuda_arch)


def test_fits() -> None:
    check_target(CPU, machine("avx2", "avx512f", "sse"))
    check_target(CUDA, machine(cuda_arch="sm_90"))


@pytest.mark.parametrize(
    ("target", "where", "message"),
    [
        (CPU, machine("avx2"), r"needs a CPU with avx512f, which this machine's lacks"),
        (CPU, Machine("Linux", "aarch64", frozenset()), "needs Linux on x86_64.*on aarch64"),
        (CPU, Machine("Darwin", "x86_64", frozenset()), "this machine is Darwin"),
        (CUDA, machine("avx2"), r"needs an NVIDIA GPU \(sm_90\); this machine has none"),
        (CUDA, machine(cuda_arch="sm_80"), "for sm_90 GPUs, and this machine has sm_80"),
    ],
)
def test_does_not_fit(target: TargetRecord, where: Machine, message: str) -> None:
    with pytest.raises(ArtifactTargetError, match=message):
        check_target(target, where)


def test_detect(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t: other\n"
    )
    assert detect_machine(cpuinfo).cpu_features == {"fpu", "avx2", "fma"}
    assert detect_machine(tmp_path / "absent").cpu_features == frozenset()
    assert detect_machine().system
