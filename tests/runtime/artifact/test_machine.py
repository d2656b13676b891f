"""A machine that can't run an artifact is told why in one sentence."""

import subprocess
from pathlib import Path

import pytest

from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact import machine as module
from ingot.runtime.artifact.machine import (
    Machine,
    check_target,
    cuda_target_for,
    detect_cuda_arch,
    detect_machine,
    device_code_for,
    resolve_target_here,
)
from ingot.runtime.artifact.manifest import KernelRecord, TargetRecord

CPU = TargetRecord(
    name="cpu:a",
    kind="cpu",
    llvm_triple="x86_64-linux-gnu",
    features=("avx2", "avx512f"),
    page_size_tokens=16,
)
ARM = TargetRecord(name="cpu:b", kind="cpu", llvm_triple="aarch64-linux-gnu", page_size_tokens=16)
CUDA = TargetRecord(name="cuda:sm_90", kind="cuda", cuda_arch="sm_90", page_size_tokens=16)

FAKE_DRIVER = """
int cuInit(unsigned flags) { return STATUS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 97 ? 232448 : -1;
    return 0;
}
"""


A100_BYTES, A10_BYTES, H100_BYTES = 166_912, 101_376, 232_448


def machine(
    *features: str, cuda_arch: str | None = None, block_shared_bytes: int = H100_BYTES
) -> Machine:
    return Machine(
        "Linux",
        "x86_64",
        frozenset(features),
        cuda_arch=cuda_arch,
        block_shared_bytes=block_shared_bytes,
    )


def kernel(arch: str, shared_bytes: int) -> KernelRecord:
    return KernelRecord(
        name="linear_kernel",
        arch=arch,
        grid=("n",),
        threads=128,
        registers=64,
        shared_bytes=shared_bytes,
        spill_bytes=0,
    )


def test_fits() -> None:
    check_target(CPU, machine("avx2", "avx512f", "sse"))
    check_target(ARM, Machine("Linux", "aarch64", frozenset()))
    check_target(CUDA, machine(cuda_arch="sm_90"))


@pytest.mark.parametrize(
    ("target", "where", "message"),
    [
        (CPU, machine("avx2"), r"needs a CPU with avx512f, which this machine's lacks"),
        (CPU, Machine("Linux", "aarch64", frozenset()), "needs Linux on x86_64.*on aarch64"),
        (CPU, Machine("Darwin", "x86_64", frozenset()), "this machine is Darwin"),
        (ARM, machine("avx2"), "needs Linux on aarch64; this machine is Linux on x86_64"),
        (CUDA, machine("avx2"), r"needs an NVIDIA GPU \(sm_90\); this machine has none"),
        (CUDA, machine(cuda_arch="sm_80"), "for sm_90 GPUs; this machine's is sm_80"),
    ],
)
def test_does_not_fit(target: TargetRecord, where: Machine, message: str) -> None:
    with pytest.raises(ArtifactTargetError, match=message):
        check_target(target, where)


@pytest.mark.parametrize(
    ("gpu", "file"),
    [
        ("sm_80", "kernels-sm_80.cubin"),
        ("sm_86", "kernels-sm_80.cubin"),
        ("sm_89", "kernels-sm_89.cubin"),
        ("sm_90", "kernels-sm_89.ptx"),
        ("sm_100", "kernels-sm_89.ptx"),
        ("sm_75", None),
    ],
)
def test_the_best_code_for_a_gpu(gpu: str, file: str | None) -> None:
    assert device_code_for(gpu, ("sm_80", "sm_89")) == file


@pytest.mark.parametrize(
    ("gpu", "file"), [("sm_90", "kernels-sm_90a.cubin"), ("sm_80", None), ("sm_100", None)]
)
def test_code_for_one_gpu_alone(gpu: str, file: str | None) -> None:
    assert device_code_for(gpu, ("sm_90a",)) == file


@pytest.mark.parametrize(
    ("gpu", "hint"),
    [("sm_87", "--target cuda:sm_86,sm_90"), ("sm_70", "no target for it; the oldest is sm_80")],
)
def test_a_gpu_that_nothing_fits_is_told_what_to_compile(gpu: str, hint: str) -> None:
    with pytest.raises(ArtifactTargetError, match=f"for sm_90 GPUs; this machine's is {gpu}") as e:
        check_target(CUDA, machine(cuda_arch=gpu))
    assert hint in e.value.hint


def test_code_for_one_gpu_alone_is_not_compiled_again_beside_another() -> None:
    target = CUDA.model_copy(update={"cuda_arch": "sm_90a"})
    with pytest.raises(ArtifactTargetError) as caught:
        check_target(target, machine(cuda_arch="sm_100"))
    assert caught.value.hint == "compile the model again with `--target cuda:sm_100`"


@pytest.mark.parametrize(
    ("gpu", "has", "best"),
    [
        ("sm_86", A10_BYTES, "cuda:sm_86,sm_80"),
        # The desktop's Blackwell runs the assembly for Hopper, and has less room than either.
        ("sm_120", A10_BYTES, "cuda:sm_89,sm_80"),
    ],
)
def test_kernels_find_room_in_shared_memory(gpu: str, has: int, best: str) -> None:
    target = CUDA.model_copy(update={"cuda_arch": "sm_80"})
    where = machine(cuda_arch=gpu, block_shared_bytes=has)
    check_target(target, where, [kernel("sm_80", has), kernel("sm_90", has + 1)])
    message = rf"for sm_80 take up to 122,880 bytes of shared memory; .* \({gpu}\) has 101,376"
    with pytest.raises(ArtifactTargetError, match=message) as caught:
        check_target(target, where, [kernel("sm_80", 122_880)])
    assert caught.value.hint == f"compile the model again with `--target {best}`"


@pytest.mark.parametrize(
    ("gpu", "has", "best"),
    [
        (None, 0, None),
        ("sm_75", 65_536, None),
        ("sm_87", A100_BYTES, "cuda:sm_86"),
        ("sm_90", H100_BYTES, "cuda:sm_90"),
        ("sm_103", H100_BYTES, "cuda:sm_100"),
        ("sm_120", A10_BYTES, "cuda:sm_89"),
    ],
)
def test_the_target_for_a_gpu(gpu: str | None, has: int, best: str | None) -> None:
    assert cuda_target_for(machine(cuda_arch=gpu, block_shared_bytes=has)) == best


def test_cuda_is_the_gpu_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu, name in ((None, "cuda:sm_90"), ("sm_80", "cuda:sm_80")):
        here = machine(cuda_arch=gpu, block_shared_bytes=A100_BYTES)
        monkeypatch.setattr(module, "detect_machine", lambda here=here: here)
        assert resolve_target_here("cuda").name == name
        assert resolve_target_here("cuda:sm_86").name == "cuda:sm_86"


def test_this_machine() -> None:
    assert detect_machine().system
    assert detect_machine().cpu_features


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CUDA_DRIVER", "libabsent.so.1")
    assert detect_cuda_arch() is None


@pytest.mark.parametrize(("status", "arch"), [(0, "sm_90"), (100, None)])
def test_driver(
    status: int, arch: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver in three functions: one GPU of compute capability 9.0, or an error."""
    source, library = tmp_path / "driver.c", tmp_path / f"libfake{status}.so"
    source.write_text(FAKE_DRIVER.replace("STATUS", str(status)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    monkeypatch.setattr(module, "CUDA_DRIVER", str(library))
    assert detect_cuda_arch() == arch
    assert detect_machine().block_shared_bytes == (H100_BYTES if arch else 0)
    assert detect_machine().cuda_status == status


def test_a_driver_without_a_gpu_is_told_why() -> None:
    broken = Machine("Linux", "x86_64", frozenset(), cuda_status=802)
    with pytest.raises(ArtifactTargetError, match="gives none: its error is 802") as e:
        check_target(CUDA, broken)
    assert "nvidia-fabricmanager" in e.value.hint
    unknown = Machine("Linux", "x86_64", frozenset(), cuda_status=12345)
    with pytest.raises(ArtifactTargetError, match="12345") as e:
        check_target(CUDA, unknown)
    assert "nvidia-smi" in e.value.hint
