"""A kernel's spec to what a call of it moves and computes: the roofline's two axes.

Bytes are the fewest that any implementation must move: weights and inputs once, outputs once.
Operations are multiplications and additions as they are usually counted (a multiply-add is two);
where they don't matter to the time, as in a norm, the count is rough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingot.compile.kernels.matmul.spec import effective_activations, packed_tensors
from ingot.compile.kernels.paged_attention.spec import has_pairs
from ingot.runtime.artifact.work import Arithmetic
from ingot.targets import Target

FLOAT = 4
KV_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

# What only GPUs multiply has no name of its own: nothing of theirs is forecast.
_ARITHMETIC: dict[str, Arithmetic] = {"bfloat16": "bfloat16", "int8": "int8"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call of a kernel moves and computes. A row is a token or, at the head, a row of
    logits.

    `None` means that the tensors themselves tell: every operand and result is moved whole, and
    each element of the result takes one operation.
    """

    label: str = ""
    activations_per_row: int | None = None
    reads_weights_whole: bool = True  # else what is read of them is in activations_per_row
    kv_per_row: int = 0
    kv_per_context: int = 0  # for each cached token that is read
    operations_per_row: int | None = None
    operations_per_pair: int = 0  # for each pair of a query token and a key token
    arithmetic: Arithmetic = "float32"
    window: int = 0


def matmul(spec: Any, target: Target) -> Cost:
    activations = effective_activations(spec, target)
    return Cost(
        label=f"{spec.out_features}x{spec.in_features} {spec.format.code}, {activations}"
        f"{f', {spec.gate}' if spec.gate else ''}",
        operations_per_row=2 * spec.out_features * spec.in_features,
        arithmetic=_ARITHMETIC.get(activations, "float32"),
    )


def embedding(spec: Any, target: Target) -> Cost:
    tensors = packed_tensors(spec.table, target)
    stored = sum(math.prod(t.shape) * np.dtype(t.dtype).itemsize for t in tensors)
    return Cost(
        label=f"{spec.vocab_size}x{spec.hidden_size} {spec.format.code}",
        activations_per_row=stored // spec.vocab_size + FLOAT * (1 + spec.hidden_size),
        reads_weights_whole=False,
        operations_per_row=spec.hidden_size,
    )


def gather_rows(spec: Any, target: Target) -> Cost:
    return Cost(label=str(spec.width), activations_per_row=2 * FLOAT * spec.width)


def norm(spec: Any, target: Target) -> Cost:
    width = spec.width * spec.rows_per_token
    passes = 4 if spec.residual else 2
    return Cost(
        label=f"{spec.kind}, {width}",
        activations_per_row=passes * FLOAT * width,
        operations_per_row=4 * width,
    )


def rope(spec: Any, target: Target) -> Cost:
    width = spec.num_heads * spec.head_dim
    return Cost(
        label=f"{spec.num_heads}x{spec.head_dim}",
        activations_per_row=FLOAT * 2 * (width + spec.cos_width),
        operations_per_row=3 * width,
    )


def kv_write(spec: Any, target: Target) -> Cost:
    width = spec.kv_heads * (spec.key_dim + spec.value_dim)
    return Cost(
        label=f"{spec.kv_heads}x{spec.key_dim}+{spec.value_dim} {spec.kv_dtype}",
        activations_per_row=FLOAT * width,
        kv_per_row=KV_BYTES[spec.kv_dtype] * width,
        operations_per_row=3 * spec.kv_heads * spec.key_dim if spec.rope else 0,
    )


def paged_attention(spec: Any, target: Target) -> Cost:
    dims = spec.key_dim + spec.value_dim
    pairs = has_pairs(spec.kv_dtype, spec.key_dim, spec.value_dim, target)
    return Cost(
        label=f"{spec.num_heads}/{spec.kv_heads}x{spec.key_dim} {spec.kv_dtype}",
        activations_per_row=FLOAT * spec.num_heads * dims,
        kv_per_context=KV_BYTES[spec.kv_dtype] * spec.kv_heads * dims,
        operations_per_row=0,
        operations_per_pair=2 * spec.num_heads * dims,
        arithmetic="bfloat16" if pairs else "float32",
        window=spec.window or spec.chunk,
    )


COSTS: dict[str, Callable[[Any, Target], Cost]] = {
    "embedding": embedding,
    "gather_rows": gather_rows,
    "kv_write": kv_write,
    "matmul": matmul,
    "norm": norm,
    "paged_attention": paged_attention,
    "rope": rope,
}
"""Operators that don't move all of their tensors, or whose operations aren't one an element."""


def cost_of(op: str, spec: Any, target: Target) -> Cost:
    return COSTS[op](spec, target) if op in COSTS else Cost(label=str(getattr(spec, "width", "")))
