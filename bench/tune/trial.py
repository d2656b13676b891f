"""What the search needs to know of a size: its candidates, and the calls that it decides on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.bench.profile.case import Case
from ingot.compile.kernels import build_kernel
from ingot.compile.kernels.kv_write.reference import to_kv_dtype
from ingot.compile.kernels.matmul.spec import LinearSpec, packed_tensors
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.vector_ir import pool_dtype
from ingot.runtime.artifact.kv_layout import num_slabs
from ingot.runtime.vm import aligned_zeros
from ingot.targets import Target
from ingot.targets.target import Size

BLOCK_VALUES = 1 << 16  # of which a large tensor is made again and again

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel with its inputs; the target that it is built for carries the size."""

    operator: str
    spec: Any
    arguments: tuple[Array, ...]
    out_shape: tuple[int, ...]

    def build(self, target: Target) -> Any:
        return build_kernel(self.operator, self.spec, target)


@dataclass(frozen=True, slots=True)
class Tunable:
    """A size of `targets/tuned.py`, what kernels take without a measurement, and the calls whose
    time it should shorten, one after the other."""

    name: str
    guess: Size
    candidates: tuple[Size, ...]
    calls: tuple[Call, ...]

    @property
    def all_sizes(self) -> tuple[Size, ...]:
        others = [size for size in self.candidates if size != self.guess]
        return tuple(sorted([self.guess, *others]))


Timing = Callable[[Tunable, Sequence[Target], int], list[list[float]]]
"""(what to call, the targets to build it for, how often) -> seconds of each turn for each target.
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What one kind of hardware brings to the search."""

    tunables: tuple[Tunable, ...]
    time: Timing
    device: str
    shapes: str
    """Whose kernels are timed, in words."""


def linear_call(target: Target, spec: LinearSpec, rows: int, seed: int = 0) -> Call:
    """A matmul of so many rows with packed weights at random."""
    rng = np.random.default_rng(seed)
    packed = [
        random_array(rng, tensor.shape, tensor.dtype) for tensor in packed_tensors(spec, target)
    ]
    if spec.has_bias:
        packed.append(random_array(rng, (spec.out_features,), "float32"))
    x = random_array(rng, (rows, spec.in_features), "float32")
    return Call("matmul", spec, (x, *packed), (rows, spec.width))


def attention_call(spec: PagedAttentionSpec, case: Case) -> Call:
    """The attention of a step over a cache at random."""
    rng, page = np.random.default_rng(0), spec.page_size
    inputs = case.inputs(page, vocab_size=1)
    rows = case.batch * case.tokens
    slabs = num_slabs(case.batch * case.num_pages(page), spec.kv_heads)
    heads: tuple[int, ...] = (spec.num_heads,)
    optional = [heads] * (spec.has_sinks + spec.has_slopes)
    if spec.rope is not None:
        optional += [(rows, spec.rope.cos_width)] * 2
    pool = pool_dtype(spec.kv_dtype)
    arrays = [
        random_array(rng, (rows, spec.row_width), "float32"),
        random_array(rng, (slabs, spec.key_dim, page), pool),
        random_array(rng, (slabs, page, spec.value_dim), pool),
        *(
            aligned(array, "int32")
            for array in (inputs.page_table, inputs.query_offsets, inputs.context_lengths)
        ),
        *(random_array(rng, shape, "float32") for shape in optional),
    ]
    out_shape = (rows, spec.num_heads * spec.value_dim)
    return Call("paged_attention", spec, tuple(arrays), out_shape)


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Numbers of no particular meaning that a kernel can multiply; large tensors repeat a block of
    them."""
    values: Array = rng.standard_normal(BLOCK_VALUES, np.float32)
    if dtype == "uint16":
        values = to_kv_dtype(values, "bfloat16")
    elif dtype in ("int8", "uint8"):
        values = rng.integers(0, 100, BLOCK_VALUES)
    elif dtype == "uint32":  # scales of superblocks: float16 0.01 and multipliers
        values = rng.integers(0, 1 << 16, BLOCK_VALUES) << 16 | int(
            np.float16(0.01).view(np.uint16)
        )
    return aligned(np.resize(values, shape), dtype)


def aligned(array: Array, dtype: str) -> Array:
    copy = aligned_zeros(array.shape, dtype)
    copy[...] = array
    return copy
