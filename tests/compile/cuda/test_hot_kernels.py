"""The kernels that decide the speed: matrix instructions, and no spills, on two kinds of GPU."""

import importlib.util
import re
from dataclasses import dataclass

import pytest
import tvm

from ingot.compile.build import tvm_target
from ingot.compile.cuda import DeviceBinary, compile_without_spills, cuda_compiler
from ingot.compile.cuda.device_code import captured
from ingot.compile.fast_inspect import fast_inspect
from ingot.compile.kernels import build_kernel, implementation
from ingot.compile.kernels.matmul import LinearSpec
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.kernels.sampling.sample import SampleSpec
from ingot.compile.schemes import FORMATS
from ingot.targets import load_targets

TARGET = load_targets()["cuda:sm_80"]
_ENTRY = re.compile(r"\.visible \.entry (\w+)\(")


@dataclass(frozen=True)
class Compiled:
    binary: DeviceBinary
    ptx: dict[str, str]  # by kernel


def compile_kernel(function: tvm.tirx.PrimFunc, arch: str) -> Compiled:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("the extra `nvrtc` is not installed")
    with fast_inspect(), captured() as device:
        tvm.tirx.build(tvm.IRModule({"main": function}), tvm_target(TARGET))
    binary = compile_without_spills(cuda_compiler("nvrtc"), device.source, arch)
    pieces = _ENTRY.split(binary.ptx.decode())
    return Compiled(binary, dict(zip(pieces[1::2], pieces[2::2], strict=True)))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("gate", ["", "silu"])
@pytest.mark.parametrize(("code", "dtype"), [("f16", "f16"), ("q4_g32", "bf16")])
def test_linear(code: str, dtype: str, gate: str, arch: str) -> None:
    spec = LinearSpec(256, 640, FORMATS[code], "int8", False, gate)
    compiled = compile_kernel(build_kernel("matmul", spec, TARGET), arch)
    assert [k for k in compiled.binary.kernels if k.spill_bytes] == []
    instruction = f"mma.sync.aligned.m16n8k16.row.col.f32.{dtype}.{dtype}.f32"
    multiplying = {name for name, text in compiled.ptx.items() if instruction in text}
    name = f"linear_{code}_{gate}_kernel" if gate else f"linear_{code}_kernel"
    few, rounding, many = (f"{name}{end}" for end in ("", "_3", "_4"))
    assert multiplying == set(compiled.ptx) - {rounding}
    assert "ld.global.nc.L1::no_allocate.v4.u32" in compiled.ptx[few]
    assert "cp.async.cg.shared.global" in compiled.ptx[many]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_attention(arch: str) -> None:
    rope = RopeSpec(32, 128, 128)
    spec = PagedAttentionSpec(32, 8, 128, 128, 0.09, kv_dtype="bfloat16", rope=rope)
    compiled = compile_kernel(build_kernel("paged_attention", spec, TARGET), arch)
    assert [k for k in compiled.binary.kernels if k.spill_bytes] == []
    walking = {name for name, text in compiled.ptx.items() if "mma.sync.aligned" in text}
    assert walking == {"paged_attention_kernel", "paged_attention_kernel_2"}
    for name in walking:
        assert "ldmatrix.sync.aligned" in compiled.ptx[name]
        assert "cp.async.cg.shared.global" in compiled.ptx[name]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_norm(arch: str) -> None:
    """A row of 16384 is sixteen columns a thread."""
    for width in (4096, 16384):
        spec = NormSpec("rms", width, 1e-6, residual=True)
        compiled = compile_kernel(build_kernel("norm", spec, TARGET), arch)
        assert [k for k in compiled.binary.kernels if k.spill_bytes] == []


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_sampling(arch: str) -> None:
    """A kernel for the largest logit, five for the thresholds' digits, one to draw."""
    kernels = implementation("sampling", TARGET)
    compiled = compile_kernel(kernels.build_sample(SampleSpec(152_064), TARGET), arch)
    assert [k for k in compiled.binary.kernels if k.spill_bytes] == []
    assert len(compiled.ptx) == 7
    in_shared = re.compile(r"atom\.shared\.add\.u32|red\.shared\.add\.u32")
    assert sum(bool(in_shared.search(text)) for text in compiled.ptx.values()) == 5
