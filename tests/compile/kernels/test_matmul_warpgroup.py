"""The linear layer on Hopper's `wgmma` against its meaning, on an emulated GPU."""

from dataclasses import replace

import numpy as np
import pytest

from ingot.compile.kernels import matmul
from ingot.compile.kernels.activation.reference import reference as activation_reference
from ingot.compile.kernels.matmul import LinearSpec, cuda_many_rows, reference
from ingot.compile.schemes import FORMATS
from ingot.targets import Target, load_targets
from tests.compile.kernels.conftest import compile_op
from tests.tolerances import assert_close

TARGET = load_targets()["cuda:sm_90a"]
# More rows than the kernels for few take: less than a tile, and one and a bit. Features of both
# warpgroups and of a second block; inputs for all stages and a group that is not whole.
ROWS = (70, 130)
FEATURES, INPUTS = 150, 300


def float32(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# Sums that take no scale, a row's, a group's and one of x; other formats are packed differently, no
# more.
@pytest.mark.parametrize("code", ["f16", "q8", "q4_s128", "f8"])
def test_linear_is_its_reference(code: str) -> None:
    spec = LinearSpec(FEATURES, INPUTS, FORMATS[code], "int8", True)
    weight, bias = float32(FEATURES, INPUTS, seed=1), float32(FEATURES, seed=2)
    x = float32(max(ROWS), INPUTS, seed=3)
    packed = matmul.pack(weight, spec, TARGET)
    activations = matmul.effective_activations(spec, TARGET)
    want = reference.linear(x, weight, bias, spec.format, activations)
    scale = float(np.abs(want).max())
    run = compile_op("matmul", spec, TARGET)
    whole = None
    for n in sorted(ROWS, reverse=True):
        got = run(x[:n], *packed, bias, np.full((n, FEATURES), np.nan, np.float32))[-1]
        assert_close(got, want[:n], "linear", scale)
        whole = got if whole is None else whole
        np.testing.assert_array_equal(got, whole[:n])


def test_blocks_of_many_bands_go_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bands of rows where two go together: the last group is not whole."""
    monkeypatch.setattr(cuda_many_rows, "BANDS_TOGETHER", 2)
    check("bf16", 257, TARGET)


@pytest.mark.parametrize("code", ["f16", "q8"])
def test_wide_tiles(code: str) -> None:
    """On a GPU of few multiprocessors, for more rows than a narrow tile has."""
    check(code, 257, replace(TARGET, multiprocessors=2))


def check(code: str, n: int, target: Target) -> None:
    spec = LinearSpec(FEATURES, 80, FORMATS[code], "int8", False)
    weight, x = float32(FEATURES, 80, seed=1), float32(n, 80, seed=3)
    activations = matmul.effective_activations(spec, target)
    want = reference.linear(x, weight, None, spec.format, activations)
    run = compile_op("matmul", spec, target)
    out = np.full((n, FEATURES), np.nan, np.float32)
    got = run(x, *matmul.pack(weight, spec, target), out)[-1]
    assert_close(got, want, "linear", float(np.abs(want).max()))


@pytest.mark.parametrize("code", ["q4_s128", "f8"])
def test_a_gate_is_applied_to_the_same_sums(code: str) -> None:
    n, runs, run = 66, 3, matmul.gate_run(TARGET)
    rows = 2 * runs * run
    plain = LinearSpec(rows, 96, FORMATS[code], "int8", False)
    gated = replace(plain, gate="silu")
    packed = matmul.pack(float32(rows, 96, seed=1), plain, TARGET)
    x = float32(n, 96, seed=3)
    sums = compile_op("matmul", plain, TARGET)(x, *packed, np.empty((n, rows), np.float32))[-1]
    out = np.full((n, gated.width), np.nan, np.float32)
    got = compile_op("matmul", gated, TARGET)(x, *packed, out)[-1]
    gate, up = np.moveaxis(sums.reshape(n, runs, 2, run), 2, 0).reshape(2, n, gated.width)
    scale = max(1.0, float(np.abs(sums).max()) ** 2)
    assert_close(got, activation_reference("silu", gate, up), "activation", scale)
