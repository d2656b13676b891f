"""Turn superblocks of weights into 4-bit integers, a 4-bit multiplier a group, and one scale.

`w = integer * multiplier * scale`: the scale of a superblock is a float16, that of a group is its
multiplier, 0 to 15, times that. So a weight is a whole number of steps of its superblock, -120 to
105 of them, and a kernel can multiply it as a byte: the sums of 128 products stay integers. Scales
of groups that are rounded themselves are known from the k-quants of llama.cpp and from T. Dettmers
et al., "QLoRA", 2023; integers that become bytes again before they are multiplied are from Y. Lin
et al., "QServe: W4A8KV4 Quantization and System Co-design", 2024.

The scale has a sign, so that the code -8, which has no counterpart, goes to the side that needs it
more. It keeps 7 bits of its mantissa, so that its product with any multiplier is a float16: where
each group has a scale of its own, on GPUs, the weights are the same ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels.matmul.scale_search import (
    SLICE_GROUPS,
    Codes,
    Floats,
    Halves,
    fit_scales,
    invert_scales,
    round_to_codes,
    squared_errors,
)
from ingot.compile.kernels.matmul.spec import LARGEST_MULTIPLIER
from ingot.errors import CompileError

NIBBLES = Codes(-8, 7)
# The plain scale clips nothing, which with 16 codes is too wide for most groups.
TRIALS = np.linspace(0.95, 1.4, 9)
MANTISSA_BITS = 7

Searched = tuple[NDArray[np.int8], Halves, NDArray[np.uint8]]


def search_superblocks(superblocks: Floats) -> Searched:
    """Integers like `superblocks` `[superblocks, groups, group size]`, scales `[superblocks]` and
    multipliers `[superblocks, groups]`, each superblock's of its own values alone."""
    count, groups, _ = superblocks.shape
    integers = np.empty(superblocks.shape, np.int8)
    scales = np.empty(count, np.float16)
    multipliers = np.empty((count, groups), np.uint8)
    step = SLICE_GROUPS // groups
    for first in range(0, count, step):
        part = slice(first, first + step)
        integers[part], scales[part], multipliers[part] = _search_slice(superblocks[part])
    return integers, scales, multipliers


def _search_slice(superblocks: Floats) -> Searched:
    count, groups, size = superblocks.shape
    x = np.ascontiguousarray(superblocks.reshape(-1, size).T)  # groups run fastest
    highest, lowest = x.max(0), x.min(0)
    # Of both signs the scales that clip nothing; a step's square stands for the error it makes.
    plain = np.maximum(highest / 7, lowest / -8)
    flipped = np.maximum(highest / 8, lowest / -7)
    flip = _sum_groups(flipped * flipped, groups) < _sum_groups(plain * plain, groups)
    flip_groups = np.repeat(flip, groups)
    np.negative(x, out=x, where=flip_groups)
    wanted = fit_scales(x, np.where(flip_groups, flipped, plain), TRIALS, NIBBLES)
    largest = wanted.reshape(count, groups).max(-1) / np.float32(LARGEST_MULTIPLIER)
    scale = round_scales(largest).astype(np.float32)
    scale_of_groups = np.repeat(scale, groups)
    exact = wanted * invert_scales(scale_of_groups)
    below = np.clip(np.floor(exact), 0, LARGEST_MULTIPLIER)
    above = np.clip(below + 1, 0, LARGEST_MULTIPLIER)
    errors = [squared_errors(x, m * scale_of_groups, NIBBLES) for m in (below, above)]
    multiplier = np.where(errors[1] < errors[0], above, below)
    codes = np.empty_like(x)
    round_to_codes(x, invert_scales(multiplier * scale_of_groups), NIBBLES, codes)
    signed = np.where(flip, -scale, scale).astype(np.float16)
    integers = np.ascontiguousarray(codes.T).astype(np.int8).reshape(superblocks.shape)
    return integers, signed, multiplier.astype(np.uint8).reshape(count, groups)


def round_scales(scale: Floats) -> Halves:
    """The nearest float16 of seven bits, whose product with any multiplier is a float16 as well."""
    mantissa, exponent = np.frexp(scale)
    steps = np.float32(1 << MANTISSA_BITS)
    rounded = np.ldexp(np.rint(mantissa * steps) / steps, exponent)
    limit = float(np.finfo(np.float16).max) / LARGEST_MULTIPLIER
    largest = float(rounded.max(initial=0.0))
    if largest > limit:
        raise CompileError(
            f"the scale {largest:g} of some weights doesn't fit 4 bits; the largest is {limit:g}",
            hint="keep this tensor in another format, for example --keep 'NAME=bf16'",
        )
    return rounded.astype(np.float16)


def _sum_groups(values: Floats, groups: int) -> Floats:
    total: Floats = values.reshape(-1, groups).sum(-1)
    return total
