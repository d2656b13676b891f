"""The machine code of linear layers and attention: the instructions that each CPU is bought for."""

import re
from typing import NamedTuple

import pytest
import tvm
from tvm import tirx

from ingot.compile.build import tvm_target
from ingot.compile.fast_inspect import fast_inspect
from ingot.compile.kernels import build_kernel
from ingot.compile.kernels.matmul import LinearSpec, cpu
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.schemes import FORMATS
from ingot.targets import Target, load_targets

TARGETS = load_targets()


class Registers(NamedTuple):
    """How one architecture's assembly names what the tests look for."""

    spill: str  # a vector register to or from the stack
    scalar: str  # a multiplication of one float


X86 = Registers(r"%[xyz]mm\d+.*\(%rsp\)|\(%rsp\).*%[xyz]mm\d+", r"\tv(fmadd|mul)\w*ss\t")
ARM = Registers(r"\t(st|ld)[pr]\t[qv]\d+.*\[sp", r"\t(fmadd|fmla|fmul)\ts\d+, s\d+, s\d+")
ZMM_FMA = r"\tvfmadd\d+ps\t.*%zmm"
FULL_TILES = [
    ("cpu:x86-64-v3", "f32", r"\tvfmadd\d+ps\t.*%ymm"),
    ("cpu:x86-64-v3", "q8", r"\tvfmadd\d+ps\t.*%ymm"),
    ("cpu:x86-64-v4", "q8_g32", ZMM_FMA),
    ("cpu:cascadelake", "bf16", ZMM_FMA),
    ("cpu:cascadelake", "q4_s128", r"\tvpdpbusd\t.*%zmm"),
    ("cpu:znver4", "f16", ZMM_FMA),
    ("cpu:znver4", "bf16", r"\tvdpbf16ps\t.*%zmm"),
    ("cpu:znver4", "q8", r"\tvpdpbusd\t.*%zmm"),
    ("cpu:znver4", "q6", r"\tvpdpbusd\t.*%zmm"),
    ("cpu:sapphirerapids", "q8_g32", r"\tvpdpbusd\t.*%zmm"),
    ("cpu:neoverse-n1", "f32", r"\tfmla\tv\d+\.4s"),
    ("cpu:neoverse-n1", "q4_s128", r"\tsdot\tv\d+\.4s"),
    ("cpu:neoverse-v1", "bf16", r"\tbfdot\tv\d+\.4s"),
    ("cpu:neoverse-v1", "q4_s128", r"\tusdot\tv\d+\.4s"),
]
ALSO_USED = [
    ("cpu:x86-64-v3", "q4_s128", r"\tvpmaddubsw\t.*%ymm"),
    ("cpu:x86-64-v4", "q4_s128", r"\tvpmaddubsw\t.*%zmm"),
    ("cpu:x86-64-v3", "f16", r"\tvcvtph2ps\t.*%ymm"),
    ("cpu:neoverse-n1", "f16", r"\tfcvtl2?\t"),
    ("cpu:neoverse-n1", "q8", r"\tsdot\tv\d+\.4s"),
    ("cpu:neoverse-n1", "q6", r"\tsdot\tv\d+\.4s"),
    ("cpu:neoverse-v1", "q8", r"\tusdot\tv\d+\.4s"),
]
"""Where registers are scarce, or sums wait while a run is added up, some spills cost less than
fewer rows."""


def assembly(target_name: str, code: str) -> str:
    target = TARGETS[target_name]
    spec = LinearSpec(64, 896, FORMATS[code], "int8", False)
    return assembly_of(cpu.build(spec, target), target)


def assembly_of(function: tirx.PrimFunc, target: Target) -> str:
    with fast_inspect():
        library = tvm.compile(function, target=tvm_target(target))
    modules = [library.mod, *library.mod.imports]
    compiled = next(module for module in modules if module.kind == "llvm")
    text: str = compiled.inspect_source("asm")
    return text


def hottest_block(text: str, instruction: str) -> str:
    """The stretch of code without a label or a jump that has most of an instruction."""
    blocks = re.split(r"^(?:\.L\w+:|\t(?:j\w+|b|b\.\w+|cbn?z)\t).*", text, flags=re.M)
    return max(blocks, key=lambda block: len(re.findall(instruction, block)))


@pytest.mark.parametrize(("target_name", "code", "instruction"), FULL_TILES)
def test_a_full_tile_stays_in_registers(target_name: str, code: str, instruction: str) -> None:
    target = TARGETS[target_name]
    names = ARM if target.architecture == "aarch64" else X86
    text = assembly(target_name, code)
    block = hottest_block(text, instruction)
    # Its sums fill at least two fifths of the registers, or sums and dots all but a few.
    assert len(re.findall(instruction, block)) >= target.vector_registers * 2 // 5
    assert not re.search(names.spill, block), re.findall(f".*(?:{names.spill}).*", block)
    assert not re.search(names.scalar, block)


@pytest.mark.parametrize(
    ("code", "product"),
    [
        ("bf16", "tdpbf16ps"),
        ("q8", "tdpbssd"),
        ("q6", "tdpbssd"),
        ("q8_g32", "tdpbssd"),
        ("q4_s128", "tdpbssd"),
    ],
)
def test_many_rows_are_multiplied_in_tiles(code: str, product: str) -> None:
    """Set up and given back, and only the two operands of a product come from memory."""
    text = assembly("cpu:sapphirerapids", code)
    for instruction in ("ldtilecfg", "tilezero", "tilestored", "tilerelease"):
        assert re.search(rf"\t{instruction}\b", text), instruction
    block = hottest_block(text, rf"\t{product}\t")
    products = len(re.findall(rf"\t{product}\t", block))
    loads = len(re.findall(r"\ttileloadd\t", block))
    if code == "bf16":  # two by two: each operand is used twice, the sums stay
        assert products == loads >= 4
        assert not re.search(r"\ttilestored\t", block)
    else:
        # Two runs at once; one of 128 inputs is two tiles deep.
        assert (products, loads) == ((2, 4) if code == "q8_g32" else (4, 8))
        assert len(re.findall(r"\tvcvtdq2ps\t\S*\(.*%zmm", block)) == 2 * 16
        # LLVM keeps one of the 16 sums in memory where nibbles leave it registers to spare.
        assert len(re.findall(X86.spill, block)) <= 2
        assert re.search(r"\tvpdpbusd\t.*%zmm", text)  # of the rows that are left


@pytest.mark.parametrize(("target_name", "code", "instruction"), ALSO_USED)
def test_the_instruction_is_used(target_name: str, code: str, instruction: str) -> None:
    assert re.search(instruction, assembly(target_name, code))


@pytest.mark.parametrize(
    ("target_name", "instruction"),
    [("cpu:znver4", r"\tprefetcht1\t"), ("cpu:neoverse-v1", r"\tprfm\tpldl2keep")],
)
def test_decode_asks_for_keys_and_values_ahead(target_name: str, instruction: str) -> None:
    """In each of the three loops over a run: a line or two in every step of the arithmetic."""
    target = TARGETS[target_name]
    spec = PagedAttentionSpec(14, 2, 64, 64, 0.125, kv_dtype="bfloat16")
    text = assembly_of(build_kernel("paged_attention", spec, target), target)
    blocks = re.split(r"^\.LBB\w+:.*", text, flags=re.M)
    assert sum(bool(re.search(instruction, block)) for block in blocks) >= 3
