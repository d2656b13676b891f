"""Turn rows of a float32 weight matrix into symmetric integers and their scales.

The scale of a group is rounded to float16 before the integers are chosen, so the stored pair is
the best for the scale that the kernel will really use. A float16 scale costs half a bit a weight
(as in the common 4-bit formats); a float32 one would cost a whole bit and win nothing, because
the integers round a thousand times more coarsely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels.matmul.scale_search import (
    invert_scales,
    round_to_codes,
    search_scales,
)
from ingot.compile.kernels.matmul.spec import GROUP
from ingot.compile.schemes import WeightFormat
from ingot.errors import CompileError

Floats = NDArray[np.float32]


def quantize(weight: Floats, format: WeightFormat) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Integers `[rows, padded in]` and scales `[rows, groups]` or `[rows]` with w = q * scale.

    8 bits: -127..127, plain scale = largest magnitude / 127. 4 bits: -8..7, plain scale = the value
    of the largest magnitude / -8 with its sign, so that it is exact and all 16 codes are used. A
    group's scale is then searched for around the plain one (`scale_search.py`); a row's is plain.
    """
    rows, inputs = weight.shape
    groups = -(-inputs // GROUP)
    padded = groups * GROUP if format.group_size else inputs
    if padded != inputs:
        weight = np.pad(weight, ((0, 0), (0, padded - inputs)))
    grouped = weight.reshape(rows, -1, format.group_size or padded)
    highest, lowest = grouped.max(-1), grouped.min(-1)
    check_finite(highest, lowest)
    if format.bits == 4:
        scale = np.where(highest > -lowest, highest, lowest) / np.float32(-8)
        low, high = -8, 7
    else:
        scale = np.maximum(highest, -lowest) / np.float32(127)
        low, high = -127, 127
    if format.group_size:
        check_float16(scale)
        plain = scale.astype(np.float16).reshape(-1)
        groups_of_all = grouped.reshape(-1, format.group_size)
        found = search_scales(groups_of_all, plain, format.bits, low, high)
        scale = found.reshape(scale.shape)
    codes = np.empty_like(grouped)
    round_to_codes(grouped, invert_scales(scale)[:, :, None], low, high, codes)
    integers = codes.astype(np.int8).reshape(rows, padded)
    return integers, scale if format.group_size else scale[:, 0]


def check_finite(highest: Floats, lowest: Floats) -> None:
    """Refuse weights with a NaN or an infinity: no scale fits them."""
    if not (np.isfinite(highest).all() and np.isfinite(lowest).all()):
        raise CompileError("a weight matrix holds NaN or infinite values; they can't be quantized")


def check_float16(values: Floats) -> None:
    """Refuse values beyond float16's range: they would silently become infinite."""
    limit = float(np.finfo(np.float16).max)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > limit:
        raise CompileError(
            f"a weight or a scale of {largest:g} doesn't fit float16; the largest is {limit:g}",
            hint="keep this tensor in another format, for example --keep 'NAME=bf16'",
        )
