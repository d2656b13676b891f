"""8-bit floats: as torch has them, rounded row by row, and by run of inputs where they are x."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ingot.compile.kernels import matmul
from ingot.compile.kernels.activation.reference import reference as activation_reference
from ingot.compile.kernels.matmul import LinearSpec, reference
from ingot.compile.kernels.matmul.float8 import e4m3_to_float32, float32_to_e4m3
from ingot.compile.kernels.matmul.quantize import quantize_float8
from ingot.compile.schemes import FORMATS
from ingot.targets import load_targets
from tests.compile.kernels.conftest import compile_op
from tests.tolerances import assert_close

ADA = load_targets()["cuda:sm_89"]
CODES = np.arange(256, dtype=np.uint8)


def float32(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_every_number_is_that_of_torch_and_comes_back() -> None:
    values = e4m3_to_float32(CODES)
    theirs = torch.from_numpy(CODES).view(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(values, theirs)
    np.testing.assert_array_equal(float32_to_e4m3(values), CODES)


def test_rounding_is_to_nearest_even_and_stays_below_the_largest() -> None:
    numbers = e4m3_to_float32(CODES[:127])
    middles = (numbers[1:] + numbers[:-1]) / 2  # exact
    near = [np.nextafter(middles, np.float32(to)) for to in (0, np.inf)]
    scaled = [float32(10_000, seed=0) * np.float32(10) ** k for k in range(-5, 4)]
    values = np.concatenate([middles, *near, *scaled, np.float32([0, 460, 1e30, np.inf, 1e-42])])
    values = np.concatenate([values, -values])
    theirs = torch.from_numpy(values.clip(-448, 448)).to(torch.float8_e4m3fn).view(torch.uint8)
    np.testing.assert_array_equal(float32_to_e4m3(values), theirs.numpy())
    assert np.isnan(e4m3_to_float32(float32_to_e4m3(np.float32([np.nan])))).all()


def test_a_row_is_off_by_a_sixteenth_of_each_weight() -> None:
    """Or by half of the smallest step, where weights are tiny beside the row's largest."""
    weight = (
        float32(16, 128, seed=1) * np.float32(10) ** np.arange(-8, 8, dtype=np.float32)[:, None]
    )
    bits, scale = quantize_float8(weight)
    assert (bits.dtype, bits.shape, scale.dtype, scale.shape) == (
        np.uint8, (16, 128), np.float32, (16, 1),
    )  # fmt: skip
    error = np.abs(reference.round_weight(weight, FORMATS["f8"]) - weight)
    assert (error <= np.maximum(np.abs(weight) * 0.0626, scale * 2**-10)).all()
    largest = np.abs(weight).max(-1, keepdims=True)
    np.testing.assert_allclose(scale * 448, largest, rtol=1e-6)


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_gate_is_applied_to_the_same_sums(has_bias: bool) -> None:
    run, runs, inputs = matmul.gate_run(ADA), 3, 96
    rows = 2 * runs * run
    plain = LinearSpec(rows, inputs, FORMATS["f8"], "float8", has_bias)
    gated = replace(plain, gate="silu")
    weights = [*matmul.pack(float32(rows, inputs, seed=1), plain, ADA)]
    weights += [float32(rows, seed=2)] if has_bias else []
    run_plain, run_gated = compile_op("matmul", plain, ADA), compile_op("matmul", gated, ADA)
    for n in (1, 33, 70):
        x = float32(n, inputs, seed=3)
        sums = run_plain(x, *weights, np.empty((n, rows), np.float32))[-1]
        got = run_gated(x, *weights, np.full((n, gated.width), np.nan, np.float32))[-1]
        gate, up = np.moveaxis(sums.reshape(n, runs, 2, run), 2, 0).reshape(2, n, gated.width)
        scale = max(1.0, float(np.abs(sums).max()) ** 2)
        assert_close(got, activation_reference("silu", gate, up), "activation", scale)


def test_activations_far_apart_and_no_numbers() -> None:
    """Each run has its own scale; rows with a NaN or an infinity are NaN, and no others."""
    spec = LinearSpec(40, 300, FORMATS["f8"], "float8", False)
    weight, x = float32(40, 300, seed=1), float32(70, 300, seed=3)
    x[:, 128:256] *= 1e6
    x[1] = 1e-42
    x[2, :128] = 0
    want = reference.linear(x, weight, None, spec.format, "float8")
    x[3, 7], x[66, 290] = np.nan, np.inf
    usual = [row for row in range(70) if row not in (3, 66)]
    packed = matmul.pack(weight, spec, ADA)
    run = compile_op("matmul", spec, ADA)
    for n in (8, 70):
        got = run(x[:n], *packed, np.empty((n, 40), np.float32))[-1]
        rows = [row for row in usual if row < n]
        for row in rows:
            assert_close(got[row], want[row], "linear", float(np.abs(want[row]).max()) or 1.0)
        assert not np.isfinite(got[[row for row in (3, 66) if row < n]]).any()
