"""Every kernel is machine code for an A100 and an H100 without a spill, by NVIDIA's own compiler:
the emulated GPU compiles the same source with another one. The hot ones have tests of their own."""

from functools import partial

import pytest
import tvm

from ingot.bench.gpu_check.cases import make_cases
from ingot.compile.build import tvm_target
from ingot.compile.cuda import compile_without_spills, cuda_compiler
from ingot.compile.cuda.device_code import DeviceCode, captured
from ingot.compile.fast_inspect import fast_inspect
from ingot.compile.kernels import build_kernel
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.targets import load_targets
from tests.compile.cuda.test_compilers import need

TARGET = load_targets()["cuda:sm_80"]
IN_HOT_KERNELS = {
    "linear f16",
    "linear q4_s128",
    "attention bfloat16",
    "attention float16",  # the same code, but for the name of a type
    "norm rms",
    "sample",
    "mask",
    "logprobs",
}


@pytest.fixture(scope="module")
def device() -> DeviceCode:
    """All of them as one source."""
    builds = [c.build for c in make_cases(TARGET, small=True) if c.name not in IN_HOT_KERNELS]
    # Of a cache that tensor cores don't read.
    attention = PagedAttentionSpec(4, 2, 32, 32, 0.2, kv_dtype="float32")
    builds.append(partial(build_kernel, "paged_attention", attention))
    functions = {
        f"f{number}": build(TARGET).with_attr("global_symbol", f"f{number}")
        for number, build in enumerate(builds)
    }
    with fast_inspect(), captured() as code:
        tvm.tirx.build(tvm.IRModule(functions), tvm_target(TARGET))
    return code


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_every_kernel_builds(device: DeviceCode, arch: str) -> None:
    need("nvrtc")
    binary = compile_without_spills(cuda_compiler("nvrtc"), device.source, arch)
    assert {kernel.name for kernel in binary.kernels} == set(device.functions)
    assert [kernel for kernel in binary.kernels if kernel.spill_bytes] == []
