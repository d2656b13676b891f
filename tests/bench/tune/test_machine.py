"""A target is tuned where it runs; where it doesn't, one sentence says so."""

import pytest

from ingot.bench.tune import machine
from ingot.bench.tune.machine import find_target, make_bench
from ingot.errors import UsageError


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "detect_cuda_arch", lambda: None)
    with pytest.raises(UsageError, match="measured on the GPU, and this machine has none"):
        find_target("cuda")


def test_cuda_is_this_machines_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "detect_cuda_arch", lambda: "sm_86")
    assert find_target("cuda").name == "cuda:sm_86"
    assert find_target("cuda:sm_80").name == "cuda:sm_80"
    with pytest.raises(UsageError, match=r"this machine's GPU \(sm_86\) can't run cuda:sm_90"):
        find_target("cuda:sm_90")


def test_a_model_is_for_gpus() -> None:
    with pytest.raises(UsageError, match="sizes of CPU kernels belong to the machine"):
        make_bench(find_target("cpu"), threads=1, model="demo", quant=None, cuda_compiler="nvrtc")
