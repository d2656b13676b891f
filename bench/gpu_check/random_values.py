"""Shapes and types to arrays and files of random values that no kernel makes NaN of.

Only their kind matters to speed, so all tensors of a kind are pieces of one block that is repeated;
its length has no divisor that a row has, so rows differ.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from ingot.errors import UsageError
from ingot.runtime.artifact.manifest import Manifest, WeightRecord, read_manifest
from ingot.runtime.artifact.weights_file import (
    TensorSpec,
    format_header,
    padding_after,
    storage_dtype,
)

Array = NDArray[Any]
Kind = Literal["weight", "gain", "scale"]

BLOCK_ELEMENTS = 4_194_301  # a prime
WEIGHT_STD = 0.02
CODE_STD = {8: 74.0, 4: 4.6}  # of integers of so many bits, all equally likely


@cache
def block(kind: Kind, dtype: str, bits: int = 8) -> Array:
    """`BLOCK_ELEMENTS` of a kind; 16-bit integers are bfloat16's bits, 8-bit ones are codes of
    `bits`, for which scales are right too."""
    rng = np.random.default_rng(0)
    if dtype in ("int8", "uint8"):
        return rng.integers(0, 256, BLOCK_ELEMENTS, np.uint8).view(dtype)
    values: Array = rng.standard_normal(BLOCK_ELEMENTS, np.float32)
    if kind == "weight":
        values *= WEIGHT_STD
    elif kind == "gain":
        values = 1 + values * np.float32(WEIGHT_STD)
    else:
        values = np.float32(WEIGHT_STD / CODE_STD[bits]) * (1 + np.tanh(values) / 10)
    if dtype in ("uint16", "bfloat16"):
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    if dtype in ("float16", "float32"):
        return values.astype(dtype)
    raise UsageError(f"there are no random values of type {dtype}")


def kind_of(weight: WeightRecord) -> Kind:
    if weight.name.endswith(".scale"):
        return "scale"
    if len(weight.shape) == 1 and not weight.name.endswith("bias"):
        return "gain"
    return "weight"


def fill_weights(folder: Path) -> None:
    """Write the weights files that an artifact's manifest lists and its folder lacks."""
    manifest = read_manifest(folder)
    names = dict.fromkeys(weight.file for weight in manifest.weights)
    with ThreadPoolExecutor() as threads:  # writing lets go of the interpreter
        list(threads.map(lambda name: _fill_file(folder, name, manifest), names))


def remove_weights(folder: Path) -> None:
    for name in {weight.file for weight in read_manifest(folder).weights}:
        (folder / name).unlink(missing_ok=True)


def drop_from_cache(folder: Path) -> None:
    """Have an artifact's weights read from the disk next time, not from memory."""
    for name in {weight.file for weight in read_manifest(folder).weights}:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())  # what is not written yet can't be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _fill_file(folder: Path, name: str, manifest: Manifest) -> None:
    weights = [weight for weight in manifest.weights if weight.file == name]
    specs = [TensorSpec(w.name, w.dtype, w.shape) for w in weights]
    bits = {w.name.removesuffix(".weight"): 8 if w.dtype == "int8" else 4 for w in weights}
    with (folder / name).open("wb") as file:
        file.write(format_header(specs))
        for weight in weights:
            owner = weight.name.removesuffix(".scale").removesuffix(".weight")
            values = block(kind_of(weight), weight.dtype, bits.get(owner, 8))
            _write(file, values, weight)


def _write(file: BinaryIO, values: Array, weight: WeightRecord) -> None:
    assert file.tell() == weight.offset and values.dtype == storage_dtype(weight.dtype)
    data = values.view(np.uint8)
    start = weight.offset % 4093 * values.itemsize  # tensors that are alike differ
    left = weight.bytes
    while left:
        piece = data[start : start + left]
        file.write(piece.data)
        left -= piece.size
        start = 0
    file.write(b"\0" * padding_after(weight.bytes))
