"""Linears that take their share of the norms around them, against norm and linear apart."""

from dataclasses import replace

import numpy as np
import pytest

from ingot.compile.kernels import matmul
from ingot.compile.kernels.matmul import LinearSpec, reference
from ingot.compile.kernels.matmul.spec import SQUARES_RUN
from ingot.compile.schemes import FORMATS
from ingot.targets import load_targets
from tests.compile.kernels.conftest import compile_op
from tests.tolerances import assert_close

# Each kernel for few rows, and the one for many; features that end in the middle of a run.
ROWS = (1, 9, 20, 70)
FEATURES, INPUTS = 88, 300
EPS = 1e-5


def float32(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def sums_of_squares(x: np.ndarray) -> np.ndarray:
    runs = -(-x.shape[1] // SQUARES_RUN)
    padded = np.zeros((len(x), runs * SQUARES_RUN), np.float64)
    padded[:, : x.shape[1]] = x
    return (padded.reshape(len(x), runs, SQUARES_RUN) ** 2).sum(-1).astype(np.float32)


@pytest.mark.parametrize(
    ("target_name", "code"),
    [
        ("cuda:sm_90", "q4_s128"),
        ("cuda:sm_90", "f16"),
        ("cuda:sm_90a", "q8"),
        ("cuda:sm_90a", "f8"),
    ],
)
def test_norm_before_and_sum_after(target_name: str, code: str) -> None:
    target = load_targets()[target_name]
    plain = LinearSpec(FEATURES, INPUTS, FORMATS[code], "int8", has_bias=True)
    spec = replace(plain, adds=True, norm_eps=EPS)
    weight, bias = float32(FEATURES, INPUTS, seed=1), float32(FEATURES, seed=2)
    x, norm_weight = 3 * float32(max(ROWS), INPUTS, seed=3), float32(INPUTS, seed=4)
    residual = float32(max(ROWS), FEATURES, seed=5)
    packed = matmul.pack(weight, plain, target)
    wide = x.astype(np.float64)
    normed = wide / np.sqrt((wide * wide).mean(-1, keepdims=True) + EPS) * norm_weight
    activations = matmul.effective_activations(plain, target)
    want = residual + reference.linear(
        normed.astype(np.float32), weight, bias, plain.format, activations
    )
    scale = float(np.abs(want).max())
    run, squares = compile_op("matmul", spec, target), sums_of_squares(x)
    for n in ROWS:
        out = np.full((n, FEATURES), np.nan, np.float32)
        sums = np.full((n, spec.num_squares), np.nan, np.float32)
        *_, out, sums = run(x[:n], squares[:n], norm_weight, *packed, bias, residual[:n], out, sums)
        # A last bit of the row's scale may round an input the other way.
        assert_close(out, want[:n], "linear of normed inputs", scale)
        np.testing.assert_allclose(sums, sums_of_squares(out), rtol=1e-5)
