"""One weight of a packed matrix as the float32 value that it stands for, exactly.

What the kernels that read weights one by one share: the embedding, and everything on a GPU.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.matmul.spec import (
    GROUP,
    LARGEST_MULTIPLIER,
    MULTIPLIER_BITS,
    QUAD,
    SCALE_BITS,
    Layout,
    groups_per_load,
)
from ingot.compile.kernels.vector_ir import Buffer, Expr, dtype_of, splat
from ingot.compile.schemes import WeightFormat


def element(
    format: WeightFormat, cut: Layout, packed: list[Buffer], block: Expr, column: Expr, k: Expr
) -> Expr:
    """The float32 value of input `k` of one column of a block."""
    if cut.tensor:
        return _tensor_core_element(format, packed, block, k)
    if not format.is_quantized:
        return _float_element(format.code, packed[0], block, column, k)
    integer = _integer(format.bits, cut, packed[0], block, column, k)
    group = tirx.floordiv(k, GROUP)
    if format.superblock_size:
        run = tirx.floordiv(group, cut.groups_per_run)
        number = tirx.floormod(group, cut.groups_per_run)
        scale = group_scale(packed[1][block, run, column], number, 1)
    elif format.group_size:
        scale = packed[1][block, group, column]
    else:
        scale = packed[1][block, column]
    return tirx.Cast("float32", integer) * tirx.Cast("float32", scale)


def superblock_scale(words: Expr, lanes: int) -> Expr:
    """The float32 scales of words of superblocks."""
    half = tirx.Cast(dtype_of("uint16", lanes), words)
    scale = tirx.reinterpret(dtype_of("float16", lanes), half)
    return tirx.Cast(dtype_of("float32", lanes), scale)


def multipliers(words: Expr, number: Expr, lanes: int) -> Expr:
    """The multipliers of group `number` of each superblock, as uint32."""
    shift = tirx.Cast("uint32", number * MULTIPLIER_BITS + SCALE_BITS)
    return (words >> splat(shift, lanes)) & splat(LARGEST_MULTIPLIER, lanes, "uint32")


def group_scale(words: Expr, number: Expr, lanes: int) -> Expr:
    """The float32 scales of group `number` of each superblock, exactly."""
    by = tirx.Cast(dtype_of("float32", lanes), multipliers(words, number, lanes))
    return superblock_scale(words, lanes) * by


def _float_element(code: str, weight: Buffer, block: Expr, column: Expr, k: Expr) -> Expr:
    if code != "bf16":
        return tirx.Cast("float32", weight[block, k, column])
    bits = weight[block, tirx.floordiv(k, 2), column * 2 + tirx.floormod(k, 2)]
    wide = tirx.Cast("uint32", bits) << tirx.const(16, "uint32")
    return tirx.reinterpret("float32", wide)


def _integer(bits: int, cut: Layout, weight: Buffer, block: Expr, column: Expr, k: Expr) -> Expr:
    """The signed integer, as int32, that the scale multiplies."""
    group, inside = tirx.floordiv(k, GROUP), tirx.floormod(k, GROUP)
    if bits != 4 and not cut.dot:
        grouped = len(weight.shape) == 4
        return tirx.Cast(
            "int32",
            weight[block, group, inside, column] if grouped else weight[block, k, column],
        )
    if cut.dot:
        packed_quads = GROUP // QUAD // (1 if bits == 8 else 2)
        quad = tirx.floordiv(inside, QUAD)
        high = tirx.floordiv(quad, packed_quads)
        byte = weight[
            block, group, tirx.floormod(quad, packed_quads), column * QUAD + tirx.floormod(k, QUAD)
        ]
    else:
        high = tirx.floormod(inside, 2)
        byte = weight[block, group, tirx.floordiv(inside, 2), column]
    code = tirx.Cast("int32", byte)
    if bits < 8:
        code = (code >> tirx.Cast("int32", high * 4)) & tirx.const(15, "int32")
    if bits == 6:
        place = column * QUAD + tirx.floormod(k, QUAD)
        plane = tirx.Cast("int32", weight[block, group, packed_quads + high, place])
        shift = tirx.Cast("int32", tirx.floormod(quad, packed_quads) * 2)
        code = code | ((plane >> shift) & tirx.const(3, "int32")) << tirx.const(4, "int32")
    return code - tirx.const(1 << (bits - 1), "int32")


def _tensor_core_element(format: WeightFormat, packed: list[Buffer], row: Expr, k: Expr) -> Expr:
    weight = packed[0]
    if format.code == "bf16":
        wide = tirx.Cast("uint32", weight[row, k]) << tirx.const(16, "uint32")
        return tirx.reinterpret("float32", wide)
    if format.code == "f16":
        return tirx.Cast("float32", weight[row, k])
    group, inside = tirx.floordiv(k, GROUP), tirx.floormod(k, GROUP)
    together = groups_per_load(format)
    lane, at = tirx.floordiv(inside, 8), tirx.floormod(inside, 8)
    place = (row, tirx.floordiv(group, together), lane, tirx.floormod(group, together))
    if format.code == "f8":
        return _float8(weight[(*place, at)]) * packed[1][row, 0]
    if format.bits == 8:
        integer = tirx.Cast("int32", weight[(*place, at)])
    else:
        code = tirx.floordiv(at, 2) + tirx.floormod(at, 2) * 4
        byte = tirx.Cast("int32", weight[(*place, tirx.floordiv(code, 2))])
        shifted = byte >> tirx.Cast("int32", tirx.floormod(code, 2) * 4)
        integer = (shifted & tirx.const(15, "int32")) - tirx.const(8, "int32")
    scale = packed[1][row, group if format.group_size else 0]
    return tirx.Cast("float32", integer) * tirx.Cast("float32", scale)


def _float8(byte: Expr) -> Expr:
    """The float32 value of an e4m3 number."""
    wide = tirx.Cast("uint32", byte)
    sign = (wide & tirx.const(0x80, "uint32")) << tirx.const(24, "uint32")
    # Exponent and mantissa where float32 has them: too small by the difference of the biases.
    magnitude = (wide & tirx.const(0x7F, "uint32")) << tirx.const(20, "uint32")
    return tirx.reinterpret("float32", sign | magnitude) * tirx.const(2.0**120, "float32")
