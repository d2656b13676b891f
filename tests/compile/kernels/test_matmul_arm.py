"""The Arm kernels' arithmetic, run on the CPU at hand: its dot products stand in for Arm's."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tvm import tirx
from tvm.ir import StringImm

from ingot.compile.kernels import matmul
from ingot.compile.kernels.matmul import LinearSpec, cpu, dot_instructions, reference
from ingot.compile.kernels.matmul.cpu_dot import DotTiles
from ingot.compile.kernels.vector_ir import Expr, T
from ingot.compile.schemes import FORMATS
from ingot.targets import Target, load_targets
from tests.compile.kernels.conftest import compile_kernel
from tests.tolerances import assert_close

# What the manual says of SDOT and USDOT, in operations that every CPU has.
STAND_IN = """
define linkonce_odr <4 x i32> @{name}(<4 x i32> %sum, <16 x i8> %a, <16 x i8> %b) alwaysinline {{
  %x = {widen} <16 x i8> %a to <16 x i32>
  %y = sext <16 x i8> %b to <16 x i32>
  %products = mul <16 x i32> %x, %y
  {shuffles}
  ret <4 x i32> %s4
}}
"""


def stand_in(name: str) -> str:
    lines = []
    for i in range(4):
        lanes = ", ".join(f"i32 {4 * lane + i}" for lane in range(4))
        lines += [
            f"%p{i} = shufflevector <16 x i32> %products, <16 x i32> undef, <4 x i32> <{lanes}>",
            f"%s{i + 1} = add <4 x i32> %{f's{i}' if i else 'sum'}, %p{i}",
        ]
    widen = "zext" if name == "usdot" else "sext"
    return STAND_IN.format(name=name, widen=widen, shuffles="\n  ".join(lines))


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The intrinsics that kernels asked for, once they are built."""
    used: set[str] = set()
    prepare = DotTiles.prepare

    def call(dtype: str, intrinsic: str, *args: Expr) -> Expr:
        name = intrinsic.split(".")[3]
        used.add(name)
        return tirx.call_pure_extern(dtype, name, *args)

    def prepare_with_stand_ins(self: DotTiles, n: Expr) -> None:
        text = StringImm(stand_in("sdot") + stand_in("usdot"))
        with T.attr(tirx.const(0, "int32"), "pragma_import_llvm", text):
            prepare(self, n)

    monkeypatch.setattr(dot_instructions, "_call", call)
    monkeypatch.setattr(DotTiles, "prepare", prepare_with_stand_ins)
    yield used


def on_this_machine(name: str, narrow: Target) -> Target:
    """An Arm target's sizes and features, this machine's instructions."""
    return replace(load_targets()[name], llvm_triple=narrow.llvm_triple, llvm_cpu=narrow.llvm_cpu)


@pytest.mark.parametrize(
    ("target_name", "code", "intrinsic"),
    [
        ("cpu:neoverse-n1", "q4_s128", "sdot"),
        ("cpu:neoverse-n1", "q8", "sdot"),
        ("cpu:neoverse-n1", "q6", "sdot"),
        ("cpu:neoverse-n1", "q8_g32", "sdot"),
        ("cpu:neoverse-v1", "q4_s128", "usdot"),
        ("cpu:neoverse-v1", "q8", "usdot"),
        ("cpu:neoverse-n1", "bf16", None),
        ("cpu:neoverse-n1", "f16", None),
    ],
)
def test_four_lanes_are_the_reference(
    target_name: str, code: str, intrinsic: str | None, narrow_target: Target, emulated: set[str]
) -> None:
    target = on_this_machine(target_name, narrow_target)
    spec = LinearSpec(31, 100, FORMATS[code], "int8", True)
    random: Any = np.random.default_rng(1)
    weight, x = (random.standard_normal((rows, 100), dtype=np.float32) for rows in (31, 33))
    bias = random.standard_normal(31, dtype=np.float32)
    run = compile_kernel(cpu.build(spec, target), target)
    assert emulated == ({intrinsic} if intrinsic else set())
    really = matmul.effective_activations(spec, target)
    want = reference.linear(x, weight, bias, spec.format, really)
    weights = [*matmul.pack(weight, spec, target), bias]
    whole = run(x, *weights, np.full((33, 31), np.nan, np.float32))[-1]
    assert_close(whole, want, "linear", float(np.abs(want).max()))
    for n in (1, 3, 6):
        got = run(x[:n], *weights, np.full((n, 31), np.nan, np.float32))[-1]
        np.testing.assert_array_equal(got, whole[:n])
