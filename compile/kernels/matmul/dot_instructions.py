"""Turn a group's products of unsigned and signed bytes into exact int32 sums, by instruction set.

A `DotInstruction` sums the eight quads of one group: `first`, then `add` for each quad, then
`total`. All are exact, so they agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from tvm import tirx

from ingot.compile.kernels.matmul.spec import has_pair_dot, has_quad_dot
from ingot.compile.kernels.vector_ir import Expr, Register, let, splat
from ingot.targets.target import Target

NEON_BYTES = 16
# The nibble mask or the offset, and activations on their way: no operand comes from memory.
ARM_SPARE_REGISTERS = 4


class DotInstruction(Protocol):
    """One way to sum the products of a group; `start` is an int32 scalar to begin from."""

    @property
    def spare_registers(self) -> int:
        """Registers that a tile needs beside its sums, dots, weights and scales."""

    def register(self) -> Register: ...

    def first(self, start: Expr) -> Expr: ...

    def weights(self, codes: Expr) -> Expr:
        """What `add` takes, made once of the unsigned codes for all rows."""

    def add(self, partial: Expr, weights: Expr, signed: Expr) -> Expr: ...

    def total(self, partial: Expr, start: Expr) -> Expr: ...


@dataclass(frozen=True, slots=True)
class QuadDot:
    """`vpdpbusd`, `usdot`: four products of unsigned and signed bytes into an int32 lane."""

    lanes: int
    intrinsic: str
    spare_registers: int

    def register(self) -> Register:
        return Register(self.lanes, dtype="int32")

    def first(self, start: Expr) -> Expr:
        return splat(start, self.lanes)

    def weights(self, codes: Expr) -> Expr:
        return codes

    def add(self, partial: Expr, weights: Expr, signed: Expr) -> Expr:
        return _call(f"int32x{self.lanes}", self.intrinsic, partial, weights, signed)

    def total(self, partial: Expr, start: Expr) -> Expr:
        return partial


@dataclass(frozen=True, slots=True)
class SignedDot:
    """`sdot`: four products of signed bytes into an int32 lane.

    Codes of four bits are the same as signed bytes, and start from -8 * sum of the activations as
    elsewhere. Codes of eight bits lose their offset first (w + 128 to w), so they start from zero.
    """

    lanes: int
    bits: int
    spare_registers: ClassVar[int] = ARM_SPARE_REGISTERS

    def register(self) -> Register:
        return Register(self.lanes, dtype="int32")

    def first(self, start: Expr) -> Expr:
        return splat(start if self.bits == 4 else 0, self.lanes, "int32")

    def weights(self, codes: Expr) -> Expr:
        if self.bits == 4:
            return codes
        words = tirx.reinterpret(f"uint32x{self.lanes}", codes)
        signed = words ^ splat(0x80808080, self.lanes, "uint32")
        return let(tirx.reinterpret(f"uint8x{4 * self.lanes}", signed), 4 * self.lanes, "uint8")

    def add(self, partial: Expr, weights: Expr, signed: Expr) -> Expr:
        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
        return _call(f"int32x{self.lanes}", name, partial, weights, signed)

    def total(self, partial: Expr, start: Expr) -> Expr:
        return partial


@dataclass(frozen=True, slots=True)
class PairDot:
    """`vpmaddubsw`: two products into an int16 lane, for unsigned values of four bits.

    A lane holds 8 quads * 2 products * 15 * 127 = 30480 at most, so a whole group fits and the
    saturation of the instruction never acts; `vpmaddwd` by ones then widens pairs of lanes.
    """

    lanes: int
    # The mask, the ones, the activations and the products in flight. Measured on Zen 4: with more
    # rows than this leaves, LLVM spills and a tile is a fifth slower.
    spare_registers: ClassVar[int] = 8

    def register(self) -> Register:
        return Register(2 * self.lanes, dtype="int16")

    def first(self, start: Expr) -> Expr:
        return splat(0, 2 * self.lanes, "int16")

    def weights(self, codes: Expr) -> Expr:
        return codes

    def add(self, partial: Expr, weights: Expr, signed: Expr) -> Expr:
        name = {16: "llvm.x86.avx512.pmaddubs.w.512", 8: "llvm.x86.avx2.pmadd.ub.sw"}[self.lanes]
        return partial + _call(f"int16x{2 * self.lanes}", name, weights, signed)

    def total(self, partial: Expr, start: Expr) -> Expr:
        name = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd"}[self.lanes]
        ones = splat(1, 2 * self.lanes, "int16")
        return _call(f"int32x{self.lanes}", name, partial, ones) + splat(start, self.lanes)


def dot_instruction(target: Target, bits: int) -> DotInstruction:
    """The best that the target has; `effective_activations` has made sure that there is one."""
    lanes = target.float32_lanes
    if not has_quad_dot(target):
        assert bits == 4 and has_pair_dot(target), target.name
        return PairDot(lanes)
    if target.vector_bytes > NEON_BYTES:
        # The nibble mask; activations are memory operands.
        return QuadDot(lanes, f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", 1)
    if target.has("i8mm"):
        return QuadDot(lanes, "llvm.aarch64.neon.usdot.v4i32.v16i8", ARM_SPARE_REGISTERS)
    return SignedDot(lanes, bits)


def _call(dtype: str, intrinsic: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(dtype, intrinsic, *args)
