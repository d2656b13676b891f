"""The sizes of the CUDA kernels, and the calls of a model that they decide on.

Which is best depends on how long rows are and how many features there are, so the calls are those
of a model: what its layers ask for in steps of 1 to 64 rows and in prompts, at two contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ingot.bench.profile.case import Case, decode, prefill
from ingot.bench.tune.cuda_timing import cuda_timing
from ingot.bench.tune.trial import Bench, Call, Tunable, attention_call, linear_call, random_array
from ingot.compile.cuda import Compile
from ingot.compile.kernels.matmul.cuda import (
    MOST_FEW_ROWS,
    enough_blocks,
    few_rows_parameter,
)
from ingot.compile.kernels.matmul.cuda_many_rows import MAX_STAGES, TILE
from ingot.compile.kernels.matmul.cuda_warpgroup import NARROW, WIDE
from ingot.compile.kernels.matmul.spec import LinearSpec, has_tensor_layout
from ingot.compile.kernels.paged_attention import cuda as attention_kernel
from ingot.compile.kernels.paged_attention import cuda_tensor
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.tensor_core import COLUMNS
from ingot.targets import Target
from ingot.targets.target import Size

PROMPT_TOKENS = 2048
LONG_CONTEXT, SHORT_CONTEXT = 4096, 512

# By the tiles of 8 rows: warps across features, warps along inputs, inputs of x and stages of
# weights in shared memory.
FEW_ROWS: dict[int, tuple[Size, ...]] = {
    1: ((1, 8, 1024, 4), (1, 8, 1024, 6), (2, 4, 1024, 3), (2, 8, 1024, 4), (4, 2, 1024, 4)),
    2: ((2, 4, 512, 4), (4, 2, 512, 3), (4, 4, 512, 4), (8, 1, 512, 4)),
    8: ((4, 1, 256, 4), (4, 2, 256, 4), (8, 1, 128, 4), (8, 1, 256, 3), (16, 1, 256, 3)),
}
"""Candidates beside the guesses in the target's table."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """The kernels that a model's layers call."""

    name: str
    linears: tuple[LinearSpec, ...]
    attentions: tuple[PagedAttentionSpec, ...]


def cuda_bench(target: Target, shapes: Shapes, device: str, compile_source: Compile) -> Bench:
    return Bench(tunables(target, shapes), cuda_timing(compile_source), device, shapes.name)


def tunables(target: Target, shapes: Shapes, scale: int = 1) -> tuple[Tunable, ...]:
    """All that a target has; with a `scale` prompts and contexts are that many times shorter."""
    linears = [spec for spec in shapes.linears if has_tensor_layout(spec, target)]
    attentions = [spec for spec in shapes.attentions if attention_kernel.has_tensor_kernels(spec)]
    found: list[Tunable] = []
    if linears:
        found += linear_tunables(target, linears, PROMPT_TOKENS // scale)
    if attentions:
        found += attention_tunables(attentions, scale)
    return tuple(found)


def linear_tunables(
    target: Target, linears: Sequence[LinearSpec], prompt_tokens: int
) -> list[Tunable]:
    weights = [linear_call(target, spec, 1) for spec in linears]

    def calls(*rows: int) -> tuple[Call, ...]:
        return tuple(with_rows(call, n) for n in rows for call in weights)

    found = []
    for row_tiles, *guess in target.matmul_few_rows:
        # One row, as it is decoded most, and as many as the kernel takes.
        rows = (1, COLUMNS) if row_tiles == 1 else (row_tiles * COLUMNS,)
        name, candidates = few_rows_parameter(row_tiles), FEW_ROWS.get(row_tiles, ())
        found.append(Tunable(name, tuple(guess), candidates, calls(*rows)))
    enough, more = enough_blocks(replace(target, tuned=())), target.multiprocessors
    found += [
        Tunable("matmul_enough_blocks", enough, (1, more, 3 * more), calls(1, 16, 64)),
        Tunable("matmul_most_few_rows", MOST_FEW_ROWS, (16, 32), calls(32, 64)),
        Tunable("matmul_stages", MAX_STAGES, (2, 4), calls(prompt_tokens)),
    ]
    if target.matmul_many_rows == "mma":
        tiles = ((64, 128), (128, 64), (128, 256))
        found.append(Tunable("matmul_tile", TILE, tiles, calls(prompt_tokens)))
    else:
        found.append(Tunable("matmul_wgmma_rows", WIDE, (NARROW,), calls(prompt_tokens)))
    return found


def with_rows(call: Call, rows: int) -> Call:
    """The same weights for other rows."""
    x, *weights = call.arguments
    more = random_array(np.random.default_rng(1), (rows, x.shape[1]), "float32")
    return replace(call, arguments=(more, *weights), out_shape=(rows, call.spec.width))


def attention_tunables(specs: Sequence[PagedAttentionSpec], scale: int) -> list[Tunable]:
    long, short = LONG_CONTEXT // scale, SHORT_CONTEXT // scale
    steps = (decode(long), decode(short, 16))
    borders = (decode(short, 32), decode(short, 64))
    prompts = (prefill(PROMPT_TOKENS // scale),)

    def calls(cases: Sequence[Case]) -> tuple[Call, ...]:
        return tuple(attention_call(spec, case) for case in cases for spec in specs)

    warps = cuda_tensor.guessed_warps(specs[0])
    return [
        Tunable("attention_span", cuda_tensor.SPAN, (64, 256, 512), calls(steps)),
        Tunable("attention_stages", cuda_tensor.MAX_STAGES, (2, 4), calls((*steps, *prompts))),
        Tunable("attention_split_rows", attention_kernel.SPLIT_ROWS, (16, 32), calls(borders)),
        Tunable("attention_warps", warps, (2, 4, 8), calls(prompts)),
    ]
