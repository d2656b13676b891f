"""Each tunable size to its candidates and a trial: the kernel and the tensors that it decides on.

The shapes are those of a model with half a billion parameters in four bits. A size belongs to a
machine and a kernel, not to a model: what it trades, registers and cache against work, is alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.bench.profile.case import Case, decode, prefill
from ingot.compile.kernels import build_kernel
from ingot.compile.kernels.matmul.cpu import TILES_PER_TASK, choose_tiles
from ingot.compile.kernels.matmul.cpu_dot import PREFETCH_BYTES
from ingot.compile.kernels.matmul.spec import LinearSpec, layout, packed_tensors
from ingot.compile.kernels.paged_attention.cpu import ENOUGH_BLOCKS
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.paged_attention.tiles import MAX_BLOCK_ROWS
from ingot.compile.schemes import FORMATS
from ingot.runtime.vm import aligned_zeros
from ingot.targets import Target

LINEAR = LinearSpec(4864, 896, FORMATS["q4_s128"], "int8", has_bias=False)
# As long as a head, so that its weights come from memory and not from a cache.
LONG = LinearSpec(75968, 896, FORMATS["q4_s128"], "int8", has_bias=False)
HEADS, KV_HEADS, HEAD_DIM = 14, 2, 64


@dataclass(frozen=True, slots=True)
class Trial:
    """One kernel with its inputs; the target that it is built for carries the size."""

    build: Callable[[Target], Any]
    arguments: tuple[NDArray[Any], ...]
    out_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tunable:
    """A size of `targets/tuned.py`, what the kernel takes without a measurement, and its trial."""

    name: str
    guess: int
    candidates: tuple[int, ...]
    trial: Trial

    @property
    def all_sizes(self) -> tuple[int, ...]:
        return tuple(sorted({self.guess, *self.candidates}))


def tunables(target: Target, scale: int = 1) -> list[Tunable]:
    """All that a target has; with a `scale` the trials are that many times smaller, for tests."""
    found = []
    if layout(LINEAR, target).dot:
        rows = guessed_rows(target)
        near = tuple(size for size in range(rows - 2, rows + 3) if size >= 2)
        many_rows = linear_trial(target, LINEAR, 512 // scale)
        few_rows = linear_trial(target, replace(LONG, out_features=LONG.out_features // scale), 8)
        found = [
            Tunable("matmul_dot_rows", rows, near, many_rows),
            Tunable("matmul_tiles_per_task", TILES_PER_TASK, (4, 8, 16, 32, 64), many_rows),
            Tunable(
                "matmul_prefetch_bytes",
                PREFETCH_BYTES,
                (1024, 4096, 16384, 32768, 65536),
                few_rows,
            ),
        ]
    return [
        *found,
        Tunable(
            "attention_block_rows",
            MAX_BLOCK_ROWS,
            (24, 48, 96),
            attention_trial(target, prefill(512 // scale)),
        ),
        Tunable(
            "attention_enough_blocks",
            ENOUGH_BLOCKS,
            (1, 8, 16, 32, 64, 128),
            attention_trial(target, decode(4096 // scale, 8)),
        ),
    ]


def guessed_rows(target: Target) -> int:
    """What the int8 tile takes from the registers, as the kernel works it out."""
    from ingot.compile.kernels.vector_ir import count, kernel

    with kernel("nothing") as function:
        x = function.argument("x", (count("n"), LINEAR.in_features))
        make_tiles = choose_tiles(LINEAR, target)
        return make_tiles(LINEAR, target, layout(LINEAR, target), x, []).rows


def linear_trial(target: Target, spec: LinearSpec, rows: int) -> Trial:
    random = np.random.default_rng(0)
    x = aligned_zeros((rows, spec.in_features), "float32")
    x[...] = random.standard_normal(x.shape)
    packed = []
    for tensor in packed_tensors(spec, target):
        array = aligned_zeros(tensor.shape, tensor.dtype)
        array[...] = random.integers(0, 200, tensor.shape) if array.dtype == np.uint8 else 0.01
        packed.append(array)
    return Trial(
        lambda target: build_kernel("matmul", spec, target),
        (x, *packed),
        (rows, spec.out_features),
    )


def attention_trial(target: Target, case: Case) -> Trial:
    page = target.page_size_tokens
    spec = PagedAttentionSpec(
        HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM, HEAD_DIM**-0.5, kv_dtype="bfloat16", page_size=page
    )
    inputs = case.inputs(page, vocab_size=1)
    pages = case.batch * case.num_pages(page)
    query = aligned_zeros((case.batch * case.tokens, HEADS * HEAD_DIM), "float32")
    query[...] = np.random.default_rng(0).standard_normal(query.shape)
    pools = [
        aligned_zeros((pages, KV_HEADS, *shape), "uint16")
        for shape in ((HEAD_DIM, page), (page, HEAD_DIM))
    ]
    tables = []
    for array in (inputs.page_table, inputs.query_offsets, inputs.context_lengths):
        aligned = aligned_zeros(array.shape, "int32")
        aligned[...] = array
        tables.append(aligned)
    return Trial(
        lambda target: build_kernel("paged_attention", spec, target),
        (query, *pools, *tables),
        query.shape,
    )
