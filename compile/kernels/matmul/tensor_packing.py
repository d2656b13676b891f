"""Rows of a weight matrix to the tensors that a GPU's tensor cores read, and back.

A warp multiplies 16 rows by a group of 32 inputs at a time; its lane (g, t) holds inputs 8t..8t+7
of rows g and g + 8. So what lane t loads at once lies together: the `tensor` layouts of `spec.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels.matmul.bfloat16 import bfloat16_to_float32, float32_to_bfloat16
from ingot.compile.kernels.matmul.float8 import e4m3_to_float32
from ingot.compile.kernels.matmul.quantize import check_float16, quantize, quantize_float8
from ingot.compile.kernels.matmul.scale_search import Floats
from ingot.compile.kernels.matmul.spec import GROUP, Layout, LinearSpec, groups_per_load

Array = NDArray[Any]
LANES, LANE_INPUTS = 4, 8
# Which of a lane's eight inputs each 4-bit code of a word is, from the lowest bits up.
CODE_INPUTS = (0, 2, 4, 6, 1, 3, 5, 7)


def pack_for_tensor_cores(rows: Floats, spec: LinearSpec, cut: Layout) -> tuple[Array, ...]:
    """Pack whole rows; inputs beyond `in_features` are zeros."""
    code = spec.format.code
    rows = np.pad(rows, ((0, 0), (0, cut.groups * GROUP - rows.shape[1])))
    if code == "f16":
        check_float16(rows)
        return (rows.astype(np.float16),)
    if code == "bf16":
        return (float32_to_bfloat16(rows),)
    if code == "f8":
        bits, scale = quantize_float8(rows)
        return _swap_groups_and_lanes(bits, cut, groups_per_load(spec.format)), scale
    quantized = quantize(rows, spec.format)
    lanes = _swap_groups_and_lanes(quantized.integers, cut, groups_per_load(spec.format))
    if spec.format.bits == 4:
        codes = (lanes[..., CODE_INPUTS] + 8).view(np.uint8)
        lanes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return np.ascontiguousarray(lanes), quantized.group_scales().reshape(len(rows), -1)


def unpack_for_tensor_cores(packed: tuple[Array, ...], spec: LinearSpec, cut: Layout) -> Floats:
    """The float32 matrix `[out, in]` that `packed` stands for, exactly."""
    weight = packed[0]
    if spec.format.code == "bf16":
        values = bfloat16_to_float32(weight)
    elif spec.format.code == "f16":
        values = weight.astype(np.float32)
    else:
        if spec.format.bits == 4:
            codes = np.stack((weight & 15, weight >> 4), axis=-1).reshape(*weight.shape[:-1], -1)
            weight = np.empty(codes.shape, np.int8)
            weight[..., CODE_INPUTS] = codes.astype(np.int8) - 8
        numbers = weight.swapaxes(2, 3).reshape(len(weight), packed[1].shape[1], -1)
        is_float = spec.format.code == "f8"
        steps = e4m3_to_float32(numbers) if is_float else numbers.astype(np.float32)
        scaled = steps * packed[1].astype(np.float32)[:, :, None]
        values = scaled.reshape(len(weight), -1)
    return np.ascontiguousarray(values[:, : spec.in_features])


def _swap_groups_and_lanes(integers: Array, cut: Layout, together: int) -> Array:
    """`[rows, in]` to `[rows, loads, lanes, groups of one load, inputs of one lane]`."""
    shape = (len(integers), cut.groups // together, together, LANES, LANE_INPUTS)
    return np.ascontiguousarray(integers.reshape(shape).swapaxes(2, 3))
