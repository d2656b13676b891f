"""Quantization schemes as data: how each kind of weight is stored, and in what it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How the elements of one weight matrix `[out, in]` are stored.

    `bits` below 16 are symmetric integers with one float16 scale for each run of `group_size`
    inputs of one output row; `group_size` 0 means one float32 scale for the whole row.
    """

    code: str
    bits: int
    group_size: int = 0

    @property
    def is_quantized(self) -> bool:
        return self.bits < 16


FORMATS: dict[str, WeightFormat] = {
    f.code: f
    for f in (
        WeightFormat("f32", 32),
        WeightFormat("bf16", 16),
        WeightFormat("f16", 16),
        WeightFormat("q8", 8),  # one scale a row
        WeightFormat("q8_g32", 8, 32),
        WeightFormat("q4_g32", 4, 32),
    )
}


@dataclass(frozen=True, slots=True)
class Scheme:
    """Which format each kind of tensor takes.

    `activations` is what the inputs of the quantized matmuls are rounded to where the target has
    the instruction for it: `int8` (one scale a token and group) or `float32` (never rounded).
    """

    name: str
    linear: str
    embedding: str
    head: str
    kv_dtype: Literal["float32", "bfloat16", "float16"]
    activations: Literal["float32", "int8"] = "float32"


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("f32", linear="f32", embedding="f32", head="f32", kv_dtype="float32"),
        Scheme("bf16", linear="bf16", embedding="bf16", head="bf16", kv_dtype="bfloat16"),
        Scheme("f16", linear="f16", embedding="f16", head="f16", kv_dtype="float16"),
        Scheme(
            "w8",
            linear="q8_g32",
            embedding="q8_g32",
            head="q8_g32",
            kv_dtype="bfloat16",
            activations="int8",
        ),
        Scheme(
            "w4",
            linear="q4_g32",
            embedding="q8_g32",
            head="q8_g32",
            kv_dtype="bfloat16",
            activations="int8",
        ),
    )
}
