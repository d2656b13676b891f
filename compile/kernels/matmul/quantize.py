"""Turn rows of a float32 weight matrix into symmetric integers, or 8-bit floats, and their scales.

A scale is rounded to float16 before the integers are chosen, so the stored pair is the best for
the scale that the kernel will really use. A float16 scale costs half a bit a weight in groups of 32
(as in the common formats); a float32 one would cost a whole bit and win nothing, because the
integers round a thousand times more coarsely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels.matmul.float8 import LARGEST, float32_to_e4m3
from ingot.compile.kernels.matmul.scale_search import (
    Codes,
    Floats,
    invert_scales,
    round_to_codes,
    search_scales,
)
from ingot.compile.kernels.matmul.spec import GROUP
from ingot.compile.kernels.matmul.superblocks import search_superblocks
from ingot.compile.schemes import WeightFormat
from ingot.errors import CompileError


@dataclass(frozen=True, slots=True)
class Quantized:
    """A matrix as integers: w = integer * scale, or integer * multiplier * scale."""

    integers: NDArray[np.int8]  # [rows, padded in]
    scale: NDArray[np.floating]  # [rows, groups], [rows, superblocks] or [rows, 1] a row
    multipliers: NDArray[np.uint8] | None = None  # [rows, groups] where there are superblocks

    def group_scales(self) -> NDArray[np.floating]:
        """What the integers of each group are multiplied by, `[rows, groups]`; exact."""
        if self.multipliers is None:
            return self.scale
        rows, superblocks = self.scale.shape
        by_superblock = self.multipliers.reshape(rows, superblocks, -1).astype(np.float16)
        return (by_superblock * self.scale[:, :, None]).reshape(rows, -1)


def quantize(weight: Floats, format: WeightFormat) -> Quantized:
    """Round `weight` `[rows, in]`; inputs are padded with zeros to whole groups or superblocks.

    8 bits: -127..127, plain scale = largest magnitude / 127; a group's is then searched for around
    it, a row's is plain (`scale_search.py`). 6 bits: -31..31, likewise. 4 bits: -8..7
    (`superblocks.py`).
    """
    rows, inputs = weight.shape
    unit = format.superblock_size or format.group_size
    padded = -(-inputs // unit) * unit if unit else inputs
    if padded != inputs:
        weight = np.pad(weight, ((0, 0), (0, padded - inputs)))
    check_finite(weight)
    if format.superblock_size:
        superblocks = weight.reshape(-1, format.superblock_size // GROUP, GROUP)
        integers, scale, multipliers = search_superblocks(superblocks)
        by_row = (rows, -1)
        return Quantized(
            integers.reshape(rows, padded), scale.reshape(by_row), multipliers.reshape(by_row)
        )
    largest = (1 << (format.bits - 1)) - 1
    codes = Codes(-largest, largest)
    grouped = weight.reshape(rows, -1, format.group_size or padded)
    scale = np.abs(grouped).max(-1) / np.float32(codes.high)
    if format.group_size:
        check_float16(scale)
        plain = scale.astype(np.float16).reshape(-1)
        scale = search_scales(grouped.reshape(-1, GROUP), plain, codes).reshape(scale.shape)
    rounded = np.empty_like(grouped)
    round_to_codes(grouped, invert_scales(scale)[:, :, None], codes, rounded)
    return Quantized(rounded.astype(np.int8).reshape(rows, padded), scale)


def quantize_float8(weight: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The bits of e4m3 numbers `[rows, in]`, and each row's scale `[rows, 1]`.

    The largest number is that of the row. No other scale is searched for: a float's error is a
    share of its own, whatever the scale.
    """
    check_finite(weight)
    largest = np.abs(weight).max(-1, keepdims=True, initial=0.0)
    scale = (largest / np.float32(LARGEST)).astype(np.float32)
    return float32_to_e4m3(weight * invert_scales(scale)), scale


def check_finite(weight: Floats) -> None:
    """Refuse weights with a NaN or an infinity: no scale fits them."""
    if not (np.isfinite(weight.max(initial=0)) and np.isfinite(weight.min(initial=0))):
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
