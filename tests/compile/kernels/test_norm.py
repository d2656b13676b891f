"""RMSNorm and LayerNorm: odd widths, heads of a wider matrix, residual add."""

import numpy as np
import pytest

from ingot.compile.kernels.norm.reference import reference
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_op, normal
from tests.tolerances import assert_close

SPECS = (
    NormSpec("rms", 896, 1e-6, residual=True),
    NormSpec("layer", 131, 1e-5, has_bias=True, residual=True),
    NormSpec("layer", 77, 1e-5, has_bias=True, rows_per_token=3, row_width=300, column_offset=9),
    NormSpec("rms", 64, 1e-6, rows_per_token=14),
    NormSpec("layer", 80, 1e-5, rows_per_token=2, weight_per_row=True),
    NormSpec("rms", 8, 1e-6, has_weight=False),
    NormSpec("layer", 4097, 1e-5, has_bias=True),  # more than four columns a thread of a GPU
)


@pytest.mark.parametrize("spec", SPECS)
def test_matches_reference(spec: NormSpec, target: Target) -> None:
    run = compile_op("norm", spec, target)
    width = spec.rows_per_token * spec.width
    shape = width if spec.weight_per_row else spec.width
    for n in (0, 1, 5, 67):
        x = normal(n, spec.row_width) + 1
        residual = normal(n, width) if spec.residual else None
        weight = normal(shape) if spec.has_weight else None
        bias = normal(shape) if spec.has_bias else None
        given = [a for a in (x, residual, weight, bias) if a is not None]
        empty = np.full((n, width), np.nan, np.float32)
        outputs = run(*given, *[empty] * (2 if spec.residual else 1))[len(given) :]
        total, normed = reference(spec, x, residual, weight, bias)
        assert_close(outputs[-1], normed, "norm")
        if spec.residual:
            np.testing.assert_array_equal(outputs[0], total.astype(np.float32))
