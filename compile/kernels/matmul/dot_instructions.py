"""Turn a group's products of unsigned and signed bytes into exact int32 sums, by instruction set.

A `DotInstruction` sums the eight quads of one group: `first`, then `add` for each quad, then
`total`. All are exact, so they agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from tvm import tirx

from ingot.compile.kernels.matmul.spec import has_pair_dot, has_quad_dot
from ingot.compile.kernels.vector_ir import Expr, Register, splat
from ingot.targets.target import Target


class DotInstruction(Protocol):
    """One way to sum the products of a group; `start` is an int32 scalar to begin from."""

    @property
    def spare_registers(self) -> int:
        """Registers that a tile needs beside its sums, dots, weights and scales."""

    def register(self) -> Register: ...

    def first(self, start: Expr) -> Expr: ...

    def add(self, partial: Expr, unsigned: Expr, signed: Expr) -> Expr: ...

    def total(self, partial: Expr, start: Expr) -> Expr: ...


@dataclass(frozen=True, slots=True)
class QuadDot:
    """`vpdpbusd`: four products into an int32 lane."""

    lanes: int
    spare_registers: ClassVar[int] = 1  # the nibble mask; activations are memory operands

    def register(self) -> Register:
        return Register(self.lanes, dtype="int32")

    def first(self, start: Expr) -> Expr:
        return splat(start, self.lanes)

    def add(self, partial: Expr, unsigned: Expr, signed: Expr) -> Expr:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
        return _call(f"int32x{self.lanes}", name, partial, unsigned, signed)

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

    def add(self, partial: Expr, unsigned: Expr, signed: Expr) -> Expr:
        name = {16: "llvm.x86.avx512.pmaddubs.w.512", 8: "llvm.x86.avx2.pmadd.ub.sw"}[self.lanes]
        return partial + _call(f"int16x{2 * self.lanes}", name, unsigned, signed)

    def total(self, partial: Expr, start: Expr) -> Expr:
        name = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd"}[self.lanes]
        ones = splat(1, 2 * self.lanes, "int16")
        return _call(f"int32x{self.lanes}", name, partial, ones) + splat(start, self.lanes)


def dot_instruction(target: Target) -> DotInstruction:
    """The best that the target has; `effective_activations` has made sure that there is one."""
    if has_quad_dot(target):
        return QuadDot(target.float32_lanes)
    assert has_pair_dot(target), target.name
    return PairDot(target.float32_lanes)


def _call(dtype: str, intrinsic: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(dtype, intrinsic, *args)
