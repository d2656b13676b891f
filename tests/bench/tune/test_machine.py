"""A target is tuned where it runs; where it doesn't, one sentence says so."""

from dataclasses import replace

import pytest

from ingot.bench.tune import machine
from ingot.bench.tune.machine import find_target, make_bench
from ingot.errors import UsageError
from ingot.runtime.artifact.machine import detect_machine


def set_gpu(monkeypatch: pytest.MonkeyPatch, arch: str | None, block_shared_bytes: int) -> None:
    here = replace(detect_machine(), cuda_arch=arch, block_shared_bytes=block_shared_bytes)
    monkeypatch.setattr(machine, "detect_machine", lambda: here)
    monkeypatch.setattr("ingot.runtime.artifact.machine.detect_machine", lambda: here)


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpu(monkeypatch, None, 0)
    with pytest.raises(UsageError, match="measured on the GPU, and this machine has none"):
        find_target("cuda")


def test_cuda_is_this_machines_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpu(monkeypatch, "sm_86", 101_376)
    assert find_target("cuda").name == find_target("cuda:sm_86").name == "cuda:sm_86"
    with pytest.raises(UsageError, match=r"GPU \(sm_86\) has less shared memory than cuda:sm_80"):
        find_target("cuda:sm_80")
    with pytest.raises(UsageError, match=r"this machine's GPU \(sm_86\) can't run cuda:sm_90"):
        find_target("cuda:sm_90")


def test_a_model_is_for_gpus() -> None:
    with pytest.raises(UsageError, match="sizes of CPU kernels belong to the machine"):
        make_bench(find_target("cpu"), threads=1, model="demo", quant=None, cuda_compiler="nvrtc")
