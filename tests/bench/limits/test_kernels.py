"""The peaks of CPUs that this machine is not: the right instruction is in their code."""

import re

import pytest
import tvm

from ingot.bench.limits import amx, kernels
from ingot.compile.build import tvm_target
from ingot.targets import Target, resolve_target

SPELT = {"fma": r"vfmadd\w+ps|fmla"}
CASES = [
    ("cpu:sapphirerapids", {"fma", "vpmaddubsw", "vpdpbusd", "vdpbf16ps"}),
    ("cpu:neoverse-v1", {"fma", "sdot", "smmla", "bfdot"}),
]


def disassemble(function: tvm.tirx.PrimFunc, target: Target) -> str:
    module = tvm.IRModule({"it": function.with_attr("global_symbol", "it")})
    return str(tvm.compile(module, target=tvm_target(target)).mod.inspect_source("asm"))


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_the_loop_is_nothing_but_the_instruction(name: str, expected: set[str]) -> None:
    target = resolve_target(name)
    known = kernels.instructions(target)
    assert {instruction.mnemonic for instruction in known} == expected
    for instruction in known:
        text = disassemble(kernels.build_peak(instruction, target, 2, 1000), target)
        spelt = SPELT.get(instruction.mnemonic, instruction.mnemonic)
        found = re.findall(rf"^\s+(?:{spelt})\s", text, re.MULTILINE)
        registers = kernels.num_accumulators(target)
        # A short loop may be unrolled; an instruction for each register, in any case.
        assert len(found) >= registers and len(found) % registers == 0, instruction


@pytest.mark.parametrize("instruction", amx.TILE_INSTRUCTIONS, ids=lambda i: i.mnemonic)
def test_tiles_are_configured_multiplied_and_released(instruction: amx.TileInstruction) -> None:
    target = resolve_target("cpu:sapphirerapids")
    assert instruction in amx.tile_instructions(target)
    text = disassemble(amx.build_tile_peak(instruction, 2, 1000), target)
    found = re.findall(rf"^\s+{instruction.mnemonic}\s", text, re.MULTILINE)
    assert found and len(found) % amx.SUMS == 0
    assert "ldtilecfg" in text and "tilerelease" in text
    assert not amx.tile_instructions(resolve_target("cpu:znver4"))
