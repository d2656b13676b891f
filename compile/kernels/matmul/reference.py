"""The meaning of a linear layer, in NumPy: float64 sums over the values that the kernel multiplies.

The rounding of activations to 8 bits is done in float32, operation for operation as the kernel does
it, so that a tie goes the same way; only the order of the sums differs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels.matmul.bfloat16 import bfloat16_to_float32, float32_to_bfloat16
from ingot.compile.kernels.matmul.float8 import LARGEST, e4m3_to_float32, float32_to_e4m3
from ingot.compile.kernels.matmul.quantize import quantize, quantize_float8
from ingot.compile.kernels.matmul.scale_search import Floats
from ingot.compile.kernels.matmul.spec import Activations
from ingot.compile.schemes import WeightFormat

# Values whose largest magnitude is below this are taken as zero: its inverse would overflow.
SMALLEST_RUN_MAXIMUM = 1e-30
LARGEST_FLOAT16 = float(np.finfo(np.float16).max)  # what a GPU's kernels make of larger ones


def round_weight(weight: Floats, format: WeightFormat) -> NDArray[np.float64]:
    """What `weight` becomes when stored in `format`."""
    if format.code == "bf16":
        return bfloat16_to_float32(float32_to_bfloat16(weight)).astype(np.float64)
    if not format.is_quantized:
        dtype = {"f32": np.float32, "f16": np.float16}[format.code]
        return weight.astype(dtype).astype(np.float64)
    if format.code == "f8":
        bits, scale = quantize_float8(weight)
        return e4m3_to_float32(bits).astype(np.float64) * scale.astype(np.float64)
    quantized = quantize(weight, format)
    rows, padded = quantized.integers.shape
    group_scale = quantized.group_scales().astype(np.float64).reshape(rows, -1, 1)
    values = quantized.integers.reshape(rows, group_scale.shape[1], -1) * group_scale
    return values.reshape(rows, padded)[:, : weight.shape[1]]


def round_activations(
    x: Floats, format: WeightFormat, activations: Activations
) -> NDArray[np.float64]:
    """Round the values of each token that share a scale to -127..127 steps of it, or to e4m3."""
    tokens, inputs = x.shape
    run = format.activation_run
    grouped = np.pad(x, ((0, 0), (0, -inputs % run))).reshape(tokens, -1, run)
    largest = np.abs(grouped).max(-1, keepdims=True)
    tiny = largest <= np.float32(SMALLEST_RUN_MAXIMUM)
    most = np.float32(127 if activations == "int8" else LARGEST)
    inverse = np.where(tiny, np.float32(0), most / np.where(tiny, 1, largest))
    steps = grouped * inverse.astype(np.float32)
    rounded = np.rint(steps) if activations == "int8" else e4m3_to_float32(float32_to_e4m3(steps))
    scale = largest * (np.float32(1) / most)
    values: NDArray[np.float64] = rounded.astype(np.float64) * scale.astype(np.float64)
    return values.reshape(tokens, -1)[:, :inputs]


def linear(
    x: Floats,
    weight: Floats,
    bias: Floats | None,
    format: WeightFormat,
    activations: Activations,
) -> NDArray[np.float64]:
    """`x @ weight.T + bias` in float64, after `weight` and `x` are rounded as the scheme says."""
    out = round_inputs(x, format, activations) @ round_weight(weight, format).T
    return out if bias is None else out + bias


def round_inputs(x: Floats, format: WeightFormat, activations: Activations) -> NDArray[np.float64]:
    """What the kernel of a weight in `format` multiplies with it, of `effective_activations`."""
    if activations in ("int8", "float8"):
        return round_activations(x, format, activations)
    if activations == "bfloat16":
        return bfloat16_to_float32(float32_to_bfloat16(x)).astype(np.float64)
    if activations == "float16":
        x = np.clip(x, -LARGEST_FLOAT16, LARGEST_FLOAT16)
    return x.astype(activations).astype(np.float64)
