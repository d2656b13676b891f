"""Packed weights of the `tensor` layouts to the fragments of a matrix instruction, in registers."""

from __future__ import annotations

from dataclasses import dataclass

from ingot.compile.kernels.cuda_ir import let
from ingot.compile.kernels.matmul.spec import (
    GROUP,
    Layout,
    LinearSpec,
    effective_activations,
    groups_per_load,
    layout,
)
from ingot.compile.kernels.tensor_core import LANE_WORDS, emit, half_of, pointer, words
from ingot.compile.kernels.vector_ir import Buffer, Expr
from ingot.targets import Target

ABOVE = 136  # 4-bit weights as they are widened first: 128, for bfloat16's sake, and 8 for no sign


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
    def unit(self) -> int:
        """The inputs that are multiplied at once: a lane has four words of them."""
        return 2 * GROUP if self.dtype == "float8" else GROUP

    @property
    def inputs_per_load(self) -> int:
        return GROUP * groups_per_load(self.spec.format)

    @property
    def units_per_load(self) -> int:
        return self.inputs_per_load // self.unit

    @property
    def inputs(self) -> int:
        """Those of a row, with what pads it."""
        return self.cut.groups * GROUP

    @property
    def loads(self) -> int:
        """Loads of four lanes along a row."""
        return self.inputs // self.inputs_per_load

    @property
    def has_group_scales(self) -> bool:
        return bool(self.spec.format.group_size)

    @property
    def has_row_scale(self) -> bool:
        return self.spec.format.is_quantized and not self.has_group_scales

    @property
    def elements_per_load(self) -> int:
        """From a row's load to its next, in elements of the packed tensor."""
        return self.inputs_per_load * self.bits // self.element_bits

    @property
    def element_bits(self) -> int:
        """Two 4-bit weights are one element."""
        return max(8, self.bits)

    def place(self, row: Expr, load: Expr, t: Expr) -> Expr:
        """Where lane t's 16 bytes of a load are, in elements from the tensor's start."""
        row_elements = self.inputs * self.bits // self.element_bits
        return row * row_elements + load * self.elements_per_load + t * (128 // self.element_bits)

    def pointer_at(self, place: Expr) -> Expr:
        """That address."""
        first = [0] * (len(self.packed[0].shape) - 1)
        return pointer(self.packed[0], *first, place)

    def pointer(self, row: Expr, load: Expr, t: Expr) -> Expr:
        """Where lane t's 16 bytes of a load are."""
        return self.pointer_at(self.place(row, load, t))

    def fragment(self, loaded: Buffer, number: int, *, above: bool = False) -> Buffer:
        """A lane's words of one of the load's units; without their scale. 4-bit ones may be left
        `ABOVE` what they mean, which saves an instruction for each two."""
        if self.bits == 16 or self.dtype == "float8":
            return loaded
        wide = words(LANE_WORDS)
        if self.bits == 8:
            name = "widen_f8" if self.spec.format.code == "f8" else "widen_q8"
            emit(name, pointer(wide, 0), loaded[2 * number], loaded[2 * number + 1])
        else:
            emit(f"widen_q4{'_above' if above else ''}", pointer(wide, 0), loaded[number])
        return wide

    @property
    def scale_words(self) -> int:
        """Of the scales of a load's groups, which are its units, two in a word."""
        return self.units_per_load // 2 if self.has_group_scales else 0

    def scale_place(self, row: Expr, load: Expr) -> Expr:
        """Where the scales of a load's groups are, in elements from the tensor's start."""
        return row * self.cut.groups + load * self.units_per_load

    def scale_pointer_at(self, place: Expr) -> Expr:
        """That address."""
        return pointer(self.packed[1], 0, place)

    def scale_pointer(self, row: Expr, load: Expr) -> Expr:
        """Where the scales of a load's groups are."""
        return self.scale_pointer_at(self.scale_place(row, load))

    def scale(self, loaded: Buffer, number: int) -> Expr:
        """That of one of the load's groups, as float32."""
        return let(half_of(loaded[number // 2], number % 2))

    def row_scale(self, row: Expr) -> Expr:
        """The scale of a whole row."""
        assert self.has_row_scale
        return self.packed[1][row, 0]
