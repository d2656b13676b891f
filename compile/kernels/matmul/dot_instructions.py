"""Turn products of unsigned and signed bytes into exact int32 sums, by instruction set.

A `DotInstruction` adds four products to a lane at once. `PairProducts` is for CPUs without one. All
are exact, so they agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from tvm import tirx

from ingot.compile.kernels.matmul.spec import has_quad_dot
from ingot.compile.kernels.vector_ir import Expr, let, splat
from ingot.targets.target import Target

NEON_BYTES = 16
# The nibble mask or the offset, and activations on their way: no operand comes from memory.
ARM_SPARE_REGISTERS = 4


class DotInstruction(Protocol):
    """One way to add four products to an int32 lane; weights are bytes, w + 128."""

    @property
    def spare_registers(self) -> int:
        """Registers that a tile needs beside its sums, dots, weights and scales."""

    @property
    def starts(self) -> bool:
        """Whether the sums begin from what the 128 adds, negated."""

    def weights(self, codes: Expr) -> Expr:
        """What `add` takes, made once of the codes for all rows."""

    def add(self, total: Expr, weights: Expr, signed: Expr) -> Expr: ...


@dataclass(frozen=True, slots=True)
class QuadDot:
    """`vpdpbusd`, `usdot`: four products of unsigned and signed bytes into an int32 lane."""

    lanes: int
    intrinsic: str
    spare_registers: int
    starts: ClassVar[bool] = True

    def weights(self, codes: Expr) -> Expr:
        return codes

    def add(self, total: Expr, weights: Expr, signed: Expr) -> Expr:
        return _call(f"int32x{self.lanes}", self.intrinsic, total, weights, signed)


@dataclass(frozen=True, slots=True)
class SignedDot:
    """`sdot`: four products of signed bytes into an int32 lane; w + 128 becomes w again."""

    lanes: int
    spare_registers: ClassVar[int] = ARM_SPARE_REGISTERS
    starts: ClassVar[bool] = False

    def weights(self, codes: Expr) -> Expr:
        words = tirx.reinterpret(f"uint32x{self.lanes}", codes)
        signed = words ^ splat(0x80808080, self.lanes, "uint32")
        return let(tirx.reinterpret(f"uint8x{4 * self.lanes}", signed), 4 * self.lanes, "uint8")

    def add(self, total: Expr, weights: Expr, signed: Expr) -> Expr:
        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
        return _call(f"int32x{self.lanes}", name, total, weights, signed)


@dataclass(frozen=True, slots=True)
class PairProducts:
    """`vpmaddubsw`: two products into an int16 lane, for unsigned values of four bits.

    Where a lane's own activations have the positive sum p and the negative sum -n, and those of
    the other lane of its pair the sum o, it holds at most -4 (p - n + o) + 15 p and at least
    -4 (p - n + o) - 15 n. Of 32 inputs 16 are its own, so p + n and |o| are at most 16 * 127, and
    the lane is within 15 * 16 * 127 = 30480: the saturation of the instruction never acts.
    """

    lanes: int
    # The mask, the activations and the products in flight. Measured on Zen 4: with more rows than
    # this leaves, LLVM spills and a tile is a fifth slower.
    spare_registers: ClassVar[int] = 8

    def multiply(self, codes: Expr, signed: Expr) -> Expr:
        name = {16: "llvm.x86.avx512.pmaddubs.w.512", 8: "llvm.x86.avx2.pmadd.ub.sw"}[self.lanes]
        return _call(f"int16x{2 * self.lanes}", name, codes, signed)

    def widen(self, partial: Expr, by: Expr) -> Expr:
        """Pairs of int16 lanes, each times its lane of `by`, as int32 sums."""
        name = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd"}[self.lanes]
        return _call(f"int32x{self.lanes}", name, partial, by)


def dot_instruction(target: Target) -> DotInstruction:
    """The best of a target that has one."""
    assert has_quad_dot(target), target.name
    lanes = target.float32_lanes
    if target.vector_bytes > NEON_BYTES:
        # The nibble mask; activations are memory operands.
        return QuadDot(lanes, f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", 1)
    if target.has("i8mm"):
        return QuadDot(lanes, "llvm.aarch64.neon.usdot.v4i32.v16i8", ARM_SPARE_REGISTERS)
    return SignedDot(lanes)


def _call(dtype: str, intrinsic: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(dtype, intrinsic, *args)
