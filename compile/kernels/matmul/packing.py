"""Turn a float32 weight matrix into the packed tensors of its kernel, and back.

Rows are quantized and moved a few blocks at a time, so the extra memory stays small whatever the
vocabulary. The result depends on the matrix, the spec and the target's vector width alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels.matmul.bfloat16 import bfloat16_to_float32, float32_to_bfloat16
from ingot.compile.kernels.matmul.quantize import Quantized, check_float16, quantize
from ingot.compile.kernels.matmul.scale_search import Floats
from ingot.compile.kernels.matmul.spec import (
    GROUP,
    LARGEST_MULTIPLIER,
    MULTIPLIER_BITS,
    QUAD,
    SCALE_BITS,
    Layout,
    LinearSpec,
    layout,
    packed_tensors,
)
from ingot.compile.kernels.matmul.tensor_packing import (
    pack_for_tensor_cores,
    unpack_for_tensor_cores,
)
from ingot.targets.target import Target

Array = NDArray[Any]

# Elements of the matrix that are worked on at once: 8 MB in float32, a few copies of it live.
CHUNK_ELEMENTS = 2 << 20

# Of the four bytes of a quad.
LOW_NIBBLES, HIGH_BITS = np.uint32(0x0F0F0F0F), np.uint32(0x03030303)
# Where a byte of high bits has those of the four quads that share it.
HIGH_SHIFTS = np.arange(0, 8, 2, dtype=np.uint32)


def pack(weight: Floats, spec: LinearSpec, target: Target) -> tuple[Array, ...]:
    """Quantize and lay out `weight` `[out, in]` as `packed_tensors` says.

    Outputs beyond `out_features` are zero weights in the last block.
    """
    assert weight.shape == (spec.out_features, spec.in_features), (weight.shape, spec)
    cut = layout(spec, target)
    packed = tuple(np.empty(t.shape, t.dtype) for t in packed_tensors(spec, target))
    step = max(1, CHUNK_ELEMENTS // (cut.block * max(1, spec.in_features)))
    for first in range(0, cut.blocks, step):
        last = min(first + step, cut.blocks)
        # In row order, for the codes are read as words: GPT-2 stores its weights transposed.
        rows = np.ascontiguousarray(weight[first * cut.block : last * cut.block], np.float32)
        missing = (last - first) * cut.block - len(rows)
        if missing:
            rows = np.pad(rows, ((0, missing), (0, 0)))
        for whole, part in zip(packed, _pack_rows(rows, spec, cut), strict=True):
            whole[first:last] = part.reshape(whole[first:last].shape)
    return packed


def _pack_rows(rows: Floats, spec: LinearSpec, cut: Layout) -> tuple[Array, ...]:
    """Pack whole blocks of rows; the shapes are right up to a reshape."""
    code, nb = spec.format.code, cut.block
    if cut.tensor:
        return pack_for_tensor_cores(rows, spec, cut)
    if code == "f32":
        return (_by_input(rows, nb),)
    if code == "f16":
        check_float16(rows)
        return (_by_input(rows.astype(np.float16), nb),)
    if code == "bf16":
        halves = float32_to_bfloat16(rows)
        missing = 2 * cut.pairs - spec.in_features
        if missing:
            halves = np.pad(halves, ((0, 0), (0, missing)))
        pairs = halves.view(np.uint32).reshape(-1, nb, cut.pairs)
        return (np.ascontiguousarray(pairs.transpose(0, 2, 1)).view(np.uint16),)
    quantized = quantize(rows, spec.format)
    integers, scale = quantized.integers, _pack_scales(quantized, spec, cut)
    if cut.dot:
        return _pack_quads(integers, spec, cut), scale
    if spec.format.bits != 4:
        return _by_input(integers, nb), scale
    codes = _by_input((integers + 8).view(np.uint8), nb)
    return codes[:, 0::2] | (codes[:, 1::2] << 4), scale


def _pack_scales(quantized: Quantized, spec: LinearSpec, cut: Layout) -> Array:
    """Scales of groups beside those of neighbouring outputs; a superblock's are one word."""
    scale: Array = quantized.scale
    if not spec.format.group_size:
        return scale
    if quantized.multipliers is not None:
        words = scale.view(np.uint16).astype(np.uint32)
        multipliers = quantized.multipliers.reshape(*scale.shape, -1).astype(np.uint32)
        for number in range(cut.groups_per_run):
            words |= multipliers[:, :, number] << (SCALE_BITS + MULTIPLIER_BITS * number)
        scale = words
    return _by_input(scale, cut.block)


def _pack_quads(integers: NDArray[np.int8], spec: LinearSpec, cut: Layout) -> Array:
    """Unsigned codes with the four inputs of a quad side by side, as the dot product reads them."""
    padded = cut.groups * GROUP
    if integers.shape[1] != padded:  # q8 has no groups of its own
        integers = np.pad(integers, ((0, 0), (0, padded - integers.shape[1])))
    offset = 1 << (spec.format.bits - 1)
    codes = (integers.view(np.uint8) + np.uint8(offset)).view(np.uint32)  # wraps as intended
    quads = _by_input(codes, cut.block).reshape(-1, cut.groups, GROUP // QUAD, cut.block)
    if spec.format.bits < 8:
        low, high = quads & LOW_NIBBLES, quads >> 4 & HIGH_BITS
        half = GROUP // QUAD // 2
        quads = low[:, :, :half] | (low[:, :, half:] << 4)
        if spec.format.bits == 6:
            planes = high.reshape(-1, cut.groups, 2, half, cut.block) << HIGH_SHIFTS[:, None]
            quads = np.concatenate((quads, np.bitwise_or.reduce(planes, axis=3)), axis=2)
    return np.ascontiguousarray(quads).view(np.uint8)


def _by_input(rows: Array, block: int) -> Array:
    """`[blocks * block, in]` to `[blocks, in, block]`."""
    return np.ascontiguousarray(rows.reshape(-1, block, rows.shape[1]).transpose(0, 2, 1))


def unpack(packed: tuple[Array, ...], spec: LinearSpec, target: Target) -> Floats:
    """The float32 matrix `[out, in]` that `packed` stands for, exactly."""
    cut = layout(spec, target)
    code, weight = spec.format.code, packed[0]
    if cut.tensor:
        return unpack_for_tensor_cores(packed, spec, cut)
    if code == "bf16":
        pairs = np.ascontiguousarray(weight).view(np.uint32)
        rows = np.ascontiguousarray(pairs.transpose(0, 2, 1)).view(np.uint16)
        values = bfloat16_to_float32(rows.reshape(cut.padded_out, -1))
    elif not spec.format.is_quantized:
        values = _by_output(weight, cut).astype(np.float32)
    else:
        values = _unpack_integers(weight, spec, cut).astype(np.float32)
        scale = _unpack_scales(packed[1], spec, cut)
        values.reshape(cut.padded_out, scale.shape[1], -1)[...] *= scale[:, :, None]
    return np.ascontiguousarray(values[: spec.out_features, : spec.in_features])


def _unpack_scales(packed: Array, spec: LinearSpec, cut: Layout) -> Floats:
    """What the integers of each group, or of a whole row, are multiplied by: `[padded out, n]`."""
    if not spec.format.group_size:
        return packed.reshape(-1, 1)
    by_output = _by_output(packed, cut)
    if not spec.format.superblock_size:
        return by_output.astype(np.float32)
    scale = by_output.astype(np.uint16).view(np.float16).astype(np.float32)
    shifts = SCALE_BITS + MULTIPLIER_BITS * np.arange(cut.groups_per_run, dtype=np.uint32)
    multipliers = by_output[:, :, None] >> shifts & LARGEST_MULTIPLIER
    return (scale[:, :, None] * multipliers.astype(np.float32)).reshape(cut.padded_out, -1)


def _unpack_integers(weight: Array, spec: LinearSpec, cut: Layout) -> Array:
    """Signed integers `[padded out, padded in]`."""
    if cut.dot:
        quads = np.ascontiguousarray(weight).view(np.uint32)
        if spec.format.bits < 8:
            nibbles, planes = np.split(quads, [GROUP // QUAD // 2], axis=2)
            quads = np.concatenate((nibbles & LOW_NIBBLES, nibbles >> 4 & LOW_NIBBLES), axis=2)
            if spec.format.bits == 6:
                high = planes[:, :, :, None] >> HIGH_SHIFTS[:, None] & HIGH_BITS
                quads |= high.reshape(quads.shape) << 4
        codes = np.ascontiguousarray(_by_output(quads, cut)).view(np.uint8)
        return codes.astype(np.int16) - (1 << (spec.format.bits - 1))
    if spec.format.bits != 4:
        return _by_output(weight, cut)
    codes = np.stack((weight & 15, weight >> 4), axis=3)
    return _by_output(codes, cut).astype(np.int16) - 8


def _by_output(blocks: Array, cut: Layout) -> Array:
    """`[blocks, ..., block]` to `[blocks * block, in]`."""
    flat = blocks.reshape(cut.blocks, -1, cut.block)
    return flat.transpose(0, 2, 1).reshape(cut.padded_out, -1)
