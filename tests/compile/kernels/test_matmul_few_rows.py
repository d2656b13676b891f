"""Few rows on a GPU: blocks that share their inputs, and as many bytes asked for as it takes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingot.compile.kernels import matmul
from ingot.compile.kernels.matmul import LinearSpec, reference
from ingot.compile.kernels.matmul.cuda import enough_blocks, few_rows_tilings
from ingot.compile.kernels.matmul.cuda_splits import MOST_TILES, shares
from ingot.compile.kernels.matmul.cuda_tiling import FewRowsTiling
from ingot.compile.kernels.matmul.cuda_weights import Weights
from ingot.compile.schemes import FORMATS
from ingot.targets import Target, load_targets
from tests.compile.kernels.conftest import compile_op
from tests.compile.kernels.test_matmul_norm import float32, sums_of_squares
from tests.tolerances import assert_close

README = Path(matmul.__file__).with_name("README.md")
GPUS = {name: target for name, target in load_targets().items() if target.kind == "cuda"}
H100 = GPUS["cuda:sm_90"]
# Out and in features of the layers of the models that are measured.
SHAPES = {
    "0.5 B": ((1152, 896), (896, 896), (9728, 896), (896, 4864)),
    "1 B": ((3072, 2048), (2048, 2048), (16384, 2048), (2048, 8192)),
    "8 B": ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)),
}
# From a request to its bytes while memory is busy: what is known of H100 and A100, not measured.
LATENCY_S = 0.7e-6


def test_shares_are_whole_chunks_and_none_is_empty() -> None:
    few, many = 32 * 8, 128 * 64  # sums
    assert shares(tiles=56, chunks=5, enough_blocks=198, sums=few) == (3, 2)  # 2 + 2 + 1
    assert shares(tiles=28, chunks=5, enough_blocks=198, sums=few) == (5, 1)
    assert shares(tiles=128, chunks=14, enough_blocks=198, sums=few) == (1, 14)
    assert shares(tiles=7, chunks=19, enough_blocks=198, sums=many) == (4, 5)
    assert shares(2 * MOST_TILES, chunks=9, enough_blocks=1 << 20, sums=few) == (1, 9)
    for tiles in (1, 7, 99):
        for chunks in range(1, 20):
            count, share = shares(tiles, chunks, 198, few)
            assert (count - 1) * share < chunks <= count * share
            assert count * tiles <= max(198, tiles)


def test_tiles_are_narrower_where_they_are_few() -> None:
    tiling, enough = few_rows_tilings(H100)[-1], enough_blocks(H100)
    widths = [tiling.narrowed(weights_of(H100, "bf16", *shape), enough).features
              for shape in ((896, 4864), (4096, 4096))]  # fmt: skip
    assert widths == [tiling.features // 2, tiling.features]


@pytest.mark.parametrize(
    ("target_name", "code"),
    [
        ("cuda:sm_90", "bf16"),
        ("cuda:sm_90", "q4_s128"),
        ("cuda:sm_89", "f8"),
    ],
)
def test_blocks_that_share_inputs_add_up_alike_every_time(target_name: str, code: str) -> None:
    """Each kernel for few rows, with the inputs of a tile shared by two blocks and by more; the
    norm before and the sums of squares after see the whole sum."""
    target = GPUS[target_name]
    features, inputs = 24, 1284
    plain = LinearSpec(features, inputs, FORMATS[code], "int8", has_bias=True)
    spec = replace(plain, adds=True, norm_eps=1e-5)
    weight, bias = float32(features, inputs, seed=1), float32(features, seed=2)
    x, norm_weight = float32(20, inputs, seed=3), float32(inputs, seed=4)
    residual, squares = float32(20, features, seed=5), sums_of_squares(x)
    packed = matmul.pack(weight, plain, target)
    wide = x.astype(np.float64)
    normed = wide / np.sqrt((wide * wide).mean(-1, keepdims=True) + 1e-5) * norm_weight
    activations = matmul.effective_activations(plain, target)
    want = residual + reference.linear(
        normed.astype(np.float32), weight, bias, plain.format, activations
    )
    scale, run = float(np.abs(want).max()), compile_op("matmul", spec, target)

    def linear(n: int) -> list[np.ndarray]:
        out = np.full((n, features), np.nan, np.float32)
        sums = np.full((n, spec.num_squares), np.nan, np.float32)
        return run(x[:n], squares[:n], norm_weight, *packed, bias, residual[:n], out, sums)[-2:]

    for n, again in ((20, False), (9, True), (3, False), (1, False)):
        out, sums = linear(n)
        assert_close(out, want[:n], "linear of normed inputs", scale)
        np.testing.assert_allclose(sums, sums_of_squares(out), rtol=1e-5)
        if again:  # the counters are zero again, and no bit depends on what was there
            np.testing.assert_array_equal(linear(n)[0], out)


def weights_of(target: Target, code: str, out_features: int, in_features: int) -> Weights:
    spec = LinearSpec(out_features, in_features, FORMATS[code], "int8", has_bias=False)
    return Weights.of(spec, target, [])


def kilobytes_in_flight(tiling: FewRowsTiling, weights: Weights, target: Target) -> float:
    """Of weights, on a multiprocessor: those of the blocks that run at once."""
    tiles, (count, share) = tiling.tiles(weights), tiling.shares(weights, enough_blocks(target))
    at_once = target.shared_memory_bytes // tiling.shared_bytes * target.multiprocessors
    loads = min(weights.loads, share * tiling.chunk // weights.inputs_per_load) / tiling.along
    part = min(1, loads / (tiling.stages - 1))
    blocks = min(tiles * count, at_once)
    return blocks * tiling.bytes_in_flight(weights) * part / target.multiprocessors / 1e3


def needed_kilobytes(target: Target) -> float:
    """On their way to each multiprocessor."""
    return target.memory_gb_s * 1e9 * LATENCY_S / target.multiprocessors / 1e3


def block_kilobytes(target: Target) -> list[float]:
    """Of each kernel, by weights without scales, which are the fewest bytes."""
    weights = weights_of(target, "bf16", 16, 1 << 14)
    return [tiling.bytes_in_flight(weights) / 1e3 for tiling in few_rows_tilings(target)]


@pytest.mark.parametrize("name", GPUS)
def test_a_block_on_each_multiprocessor_asks_for_enough(name: str) -> None:
    assert needed_kilobytes(GPUS[name]) < min(block_kilobytes(GPUS[name]))


def needs_table() -> list[str]:
    lines = []
    for name in ("cuda:sm_80", "cuda:sm_90", "cuda:sm_100"):
        target = GPUS[name]
        blocks = ", ".join(f"{each:.0f}" for each in block_kilobytes(target))
        cells = [target.example, f"{target.memory_gb_s:,}", str(target.multiprocessors)]
        cells += [f"{needed_kilobytes(target):.0f} KB", f"{blocks} KB"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def shapes_table() -> list[str]:
    """For each linear and kernel its blocks, and what they have asked for."""
    lines = []
    for model, shapes in SHAPES.items():
        for out_features, in_features in shapes:
            cells = [model, f"{out_features:,} x {in_features:,}"]
            weights, enough = (
                weights_of(H100, "bf16", out_features, in_features),
                enough_blocks(H100),
            )
            for wide in few_rows_tilings(H100):
                tiling = wide.narrowed(weights, enough)
                tiles, (count, _) = tiling.tiles(weights), tiling.shares(weights, enough)
                blocks = f"{tiles:,} x {count}" if count > 1 else f"{tiles:,}"
                cells.append(f"{blocks}, {kilobytes_in_flight(tiling, weights, H100):.0f} KB")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


@pytest.mark.parametrize("table", [needs_table, shapes_table])
def test_the_readme_has_what_is_worked_out(table: Callable[[], list[str]]) -> None:
    lines = "\n".join(table())
    assert lines in README.read_text("utf-8"), lines
