"""Quantization schemes as data: how each kind of weight is stored, and in what it is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

# Of activations whose weights have one scale a row: long enough for scales to cost little, and as
# long as the superblocks' so that they round alike.
ROW_RUN = 128


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How the elements of one weight matrix `[out, in]` are stored.

    `bits` below 16 are symmetric integers with one float16 scale for each run of `group_size`
    inputs of one output row; `group_size` 0 means one float32 scale for the whole row. Where a
    `superblock_size` is given, the scale of a group is a small integer, 0 to 15, times the float16
    scale that the superblock's groups share. `f8` are 8-bit floats (e4m3) in their place.
    `kinds` are the kinds of target that have kernels for it; on others, schemes take `instead`.
    """

    code: str
    bits: int
    group_size: int = 0
    superblock_size: int = 0
    kinds: tuple[str, ...] = ("cpu", "cuda")
    instead: str = ""

    @property
    def is_quantized(self) -> bool:
        return self.bits < 16

    @property
    def activation_run(self) -> int:
        """How many inputs of a token share one scale where activations are rounded to 8 bits."""
        return self.superblock_size or self.group_size or ROW_RUN


FORMATS: dict[str, WeightFormat] = {
    f.code: f
    for f in (
        WeightFormat("f32", 32),
        WeightFormat("bf16", 16),
        WeightFormat("f16", 16),
        WeightFormat("q8", 8),  # one scale a row
        WeightFormat("q6", 6, kinds=("cpu",), instead="q8"),  # one scale a row
        WeightFormat("q8_g32", 8, 32),
        WeightFormat("q4_s128", 4, 32, 128),
        WeightFormat("f8", 8, kinds=("cuda",)),  # one scale a row
    )
}


def formats_for(kind: str) -> list[str]:
    """Those that targets of a kind have kernels for."""
    return [code for code, format in FORMATS.items() if kind in format.kinds]


@dataclass(frozen=True, slots=True)
class Scheme:
    """Which format each kind of tensor takes.

    `activations` is what the inputs of the quantized matmuls are rounded to where the target has
    the instruction for it: `int8` or `float8` (one scale for each run of a token's inputs), or
    `float32` (never rounded).
    """

    name: str
    linear: str
    embedding: str
    head: str
    kv_dtype: Literal["float32", "bfloat16", "float16"]
    activations: Literal["float32", "int8", "float8"] = "float32"

    @property
    def formats(self) -> tuple[str, str, str]:
        return self.linear, self.embedding, self.head


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
            "f8",
            linear="f8",
            embedding="q8_g32",
            head="q8_g32",
            kv_dtype="bfloat16",
            activations="float8",
        ),
        Scheme(
            "w4",
            linear="q4_s128",
            embedding="q6",
            head="q6",
            kv_dtype="bfloat16",
            activations="int8",
        ),
    )
}


def scheme_for(name: str, kind: str) -> Scheme:
    """The scheme as targets of a kind have it."""

    def there(code: str) -> str:
        format = FORMATS[code]
        return code if kind in format.kinds else format.instead or code

    scheme = SCHEMES[name]
    linear, embedding, head = map(there, scheme.formats)
    return replace(scheme, linear=linear, embedding=embedding, head=head)
