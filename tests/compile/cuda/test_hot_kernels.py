"""The kernels that decide the speed, disassembled: matrix instructions, wide loads, no spills."""

from pathlib import Path

import pytest
import tvm

from ingot.compile.build import tvm_target
from ingot.compile.cuda import compile_without_spills, cuda_compiler
from ingot.compile.cuda.device_code import captured
from ingot.compile.fast_inspect import fast_inspect
from ingot.compile.kernels import build_kernel, implementation
from ingot.compile.kernels.matmul import LinearSpec
from ingot.compile.kernels.matmul.cuda import few_rows_tilings
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.kernels.sampling.spec import SamplingSpec
from ingot.compile.schemes import FORMATS
from ingot.targets import Target, load_targets
from tests.compile.cuda.disassembly import Instructions, disassemble
from tests.compile.cuda.test_compilers import need

TARGET = load_targets()["cuda:sm_80"]
FOUR_INPUTS = "LDG.E.128.CONSTANT"  # of x
IS_LAST = "ATOMG.E.INC.STRONG.GPU"  # of the blocks that share inputs
OPT_IN_BYTES = 48 << 10  # of shared memory: a block gets more only if the launcher asks the driver
COPY_ASIDE = "LDGSTS.E.BYPASS.128"  # 16 bytes to shared memory, while the thread goes on


def compile_kernel(function: tvm.tirx.PrimFunc, arch: str, folder: Path) -> dict[str, Instructions]:
    """The machine code of each kernel, none of which keeps registers in memory."""
    need("nvrtc")
    with fast_inspect(), captured() as device:
        tvm.tirx.build(tvm.IRModule({"main": function}), tvm_target(TARGET))
    binary = compile_without_spills(cuda_compiler("nvrtc"), device.source, arch)
    assert [kernel for kernel in binary.kernels if kernel.spill_bytes] == []
    for kernel in binary.kernels:
        # TVM asks for what is dynamic, and not below this size: a launch would fail between.
        dynamic = device.grids[kernel.name].shared_bytes
        assert dynamic >= OPT_IN_BYTES or kernel.shared_bytes + dynamic <= OPT_IN_BYTES, kernel
    code = disassemble(binary.cubin, folder)
    assert set(code) == {kernel.name for kernel in binary.kernels}
    assert all(kernel.of("LDL") == kernel.of("STL") == 0 for kernel in code.values())
    return code


def kernels_with(instruction: str, code: dict[str, Instructions]) -> set[str]:
    return {name for name, kernel in code.items() if kernel.of(instruction)}


ON_BOTH = pytest.mark.parametrize("arch", ["sm_80", "sm_90"])


@ON_BOTH
@pytest.mark.parametrize("gate", ["", "silu"])
@pytest.mark.parametrize(
    ("format", "multiply"), [("f16", "HMMA.16816.F32"), ("q4_s128", "HMMA.16816.F32.BF16")]
)
def test_linear(format: str, multiply: str, gate: str, arch: str, tmp_path: Path) -> None:
    check_linear(format, multiply, gate, TARGET, arch, tmp_path)


@pytest.mark.parametrize("gate", ["", "silu"])
@pytest.mark.parametrize(
    ("target", "arch", "multiply"),
    [
        ("cuda:sm_89", "sm_89", "QMMA.16832.F32.E4M3.E4M3"),
        # What sm_90 makes of the same instruction: it has 8-bit floats in wgmma alone.
        ("cuda:sm_89", "sm_90", "HMMA.16816.F32"),
        ("cuda:sm_90", "sm_90", "HMMA.16816.F32.BF16"),
    ],
)
def test_linear_of_8_bit_floats(
    target: str, arch: str, multiply: str, gate: str, tmp_path: Path
) -> None:
    check_linear("f8", multiply, gate, load_targets()[target], arch, tmp_path)


def check_linear(
    format: str, multiply: str, gate: str, target: Target, arch: str, folder: Path
) -> None:
    """Three kernels for few rows, the last two of which have blocks that share inputs; one that
    rounds and one for many. The inputs are more than all stages hold."""
    spec = LinearSpec(4096, 4096, FORMATS[format], "int8", False, gate)
    code = compile_kernel(build_kernel("matmul", spec, target), arch, folder)
    name = f"linear_{format}_{gate}_kernel" if gate else f"linear_{format}_kernel"
    *few, rounding, many = (f"{name}{end}" for end in ("", "_1", "_2", "_3", "_4"))
    assert set(code) == {*few, rounding, many}
    kind = multiply.partition(".")[0]
    assert kernels_with(kind, code) == {*few, many}
    # All of them of the weights' type; bfloat16's name is longer than float16's.
    for kernel in (*few, many):
        assert code[kernel][multiply] == code[kernel].of("HMMA") + code[kernel].of("QMMA") > 0
    assert kernels_with(COPY_ASIDE, code) == {*few, many}
    # Both features of a lane: all stages but one before the first is waited for, one in the loop.
    for kernel, tiling in zip(few, few_rows_tilings(target), strict=True):
        assert code[kernel][COPY_ASIDE] >= 2 * tiling.stages
    assert kernels_with(IS_LAST, code) == set(few[1:])
    if not (format == "f8" and target.has("e4m3_products")):
        assert kernels_with(FOUR_INPUTS, code) == set(few)


@pytest.mark.parametrize(
    ("format", "multiply"),
    [
        ("f16", "HGMMA.64x128x16.F32"),
        ("q4_s128", "HGMMA.64x128x16.F32.BF16"),
        ("f8", "QGMMA.64x128x32.F32.E4M3.E4M3"),
    ],
)
def test_linear_by_warpgroups(format: str, multiply: str, tmp_path: Path) -> None:
    target = load_targets()["cuda:sm_90a"]
    spec = LinearSpec(256, 640, FORMATS[format], "int8", False, "silu")
    code = compile_kernel(build_kernel("matmul", spec, target), target.cuda_arch, tmp_path)
    many, wide = f"linear_{format}_silu_kernel_4", f"linear_{format}_silu_kernel_5"
    kind = multiply.partition(".")[0]
    assert kernels_with(kind, code) == {many, wide} & set(code) <= kernels_with(COPY_ASIDE, code)
    assert code[many][multiply] == code[many].of(kind) and not code[many].of("HMMA")
    if format == "f16":  # the only one here whose sums aren't scaled
        assert code[wide].of("HGMMA.64x256x16.F32") == code[wide].of("HGMMA") > 0
    # Every group of instructions is one that was asked for.
    assert all(
        code[name].of("WARPGROUP.ARRIVE") == code[name].of("WARPGROUP.DEPBAR") for name in code
    )
    # Tensor cores see what the threads' copies brought.
    assert code[many].of("FENCE.VIEW.ASYNC")


@ON_BOTH
def test_attention(arch: str, tmp_path: Path) -> None:
    rope = RopeSpec(32, 128, 128)
    spec = PagedAttentionSpec(32, 8, 128, 128, 0.09, kv_dtype="bfloat16", rope=rope)
    code = compile_kernel(build_kernel("paged_attention", spec, TARGET), arch, tmp_path)
    walking = {"paged_attention_kernel", "paged_attention_kernel_2"}
    for instruction in ("HMMA.16816.F32.BF16", "LDSM.16.MT88.4", COPY_ASIDE):
        assert kernels_with(instruction, code) == walking


@ON_BOTH
def test_norm(arch: str, tmp_path: Path) -> None:
    """A row of 16384 is sixteen columns a thread."""
    for width in (4096, 16384):
        spec = NormSpec("rms", width, 1e-6, residual=True)
        compile_kernel(build_kernel("norm", spec, TARGET), arch, tmp_path)


@ON_BOTH
def test_sampling(arch: str, tmp_path: Path) -> None:
    """A kernel for the largest logit, five for the thresholds' digits, one to draw."""
    kernels = implementation("sampling", TARGET)
    function = kernels.build_sample(SamplingSpec(152_064), TARGET)
    code = compile_kernel(function, arch, tmp_path)
    assert len(code) == 7
    assert len(kernels_with("ATOMS.ADD", code) | kernels_with("ATOMS.POPC.INC", code)) == 5
    for build, spec in (
        (kernels.build_mask, SamplingSpec(152_064)),
        (kernels.build_logprobs, SamplingSpec(152_064)),
    ):
        compile_kernel(build(spec, TARGET), arch, tmp_path)
