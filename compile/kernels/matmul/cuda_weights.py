"""Packed weights of the `tensor` layouts to the fragments of a matrix instruction, in registers."""

from __future__ import annotations

from dataclasses import dataclass

from ingot.compile.kernels.cuda_ir import let
from ingot.compile.kernels.matmul.spec import (
    Layout,
    LinearSpec,
    effective_activations,
    groups_per_load,
    layout,
)
from ingot.compile.kernels.tensor_core import LANE_WORDS, emit, half_of, pointer, words
from ingot.compile.kernels.vector_ir import Buffer, Expr
from ingot.targets import Target


@dataclass(frozen=True, slots=True)
class Weights:
    """The packed tensors of one linear layer, as kernels take them."""

    spec: LinearSpec
    cut: Layout
    packed: list[Buffer]
    dtype: str  # of what is multiplied

    @staticmethod
    def of(spec: LinearSpec, target: Target, packed: list[Buffer]) -> Weights:
        return Weights(spec, layout(spec, target), packed, effective_activations(spec, target))

    @property
    def bits(self) -> int:
        return self.spec.format.bits

    @property
    def groups_per_load(self) -> int:
        return groups_per_load(self.spec.format)

    @property
    def loads(self) -> int:
        """Loads of four lanes along a row."""
        return self.cut.groups // self.groups_per_load

    @property
    def has_group_scales(self) -> bool:
        return bool(self.spec.format.group_size)

    def pointer(self, row: Expr, load: Expr, t: Expr) -> Expr:
        """Where lane t's 16 bytes of a load are."""
        if self.bits == 16:
            return pointer(self.packed[0], row, load * 32 + t * 8)
        return pointer(self.packed[0], row, load, t, 0, 0)

    def group(self, loaded: Buffer, number: int) -> Buffer:
        """A lane's fragment words of one of the load's groups; integers without their scale."""
        if self.bits == 16:
            return loaded
        wide = words(LANE_WORDS)
        if self.bits == 8:
            emit("widen_q8", pointer(wide, 0), loaded[2 * number], loaded[2 * number + 1])
        else:
            emit("widen_q4", pointer(wide, 0), loaded[number])
        return wide

    def load_scales(self, row: Expr, load: Expr) -> Buffer:
        """The scales of a load's groups, two in a word."""
        count = self.groups_per_load
        loaded = words(count // 2)
        place = pointer(self.packed[1], row, load * count)
        emit(f"load{2 * count}", pointer(loaded, 0), place)
        return loaded

    def scale(self, loaded: Buffer, number: int) -> Expr:
        """That of one of the load's groups, as float32."""
        return let(half_of(loaded[number // 2], number % 2))

    def row_scale(self, row: Expr) -> Expr:
        """The scale of a whole row."""
        assert self.spec.format.code == "q8"
        return self.packed[1][row, 0]
