"""Rotary embedding: both pairings, partial rotation, half-width cos, columns of a wider matrix."""

import numpy as np
import pytest

from ingot.compile.kernels.rope.reference import reference
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_op, normal
from tests.tolerances import assert_close

SPECS = (
    RopeSpec(3, 64, 64),
    RopeSpec(2, 80, 80, interleaved=True),
    RopeSpec(2, 96, 32, cos_width=16, row_width=500, column_offset=7),
    RopeSpec(2, 20, 12, interleaved=True, cos_width=6),
    RopeSpec(1, 8, 6),
)


@pytest.mark.parametrize("spec", SPECS)
def test_matches_reference(spec: RopeSpec, target: Target) -> None:
    run = compile_op("rope", spec, target)
    for n in (0, 1, 5, 131):
        x = normal(n, spec.row_width)
        angles = normal(n, spec.cos_width)
        cos, sin = np.cos(angles), np.sin(angles)
        out = np.full((n, spec.num_heads * spec.head_dim), np.nan, np.float32)
        got = run(x, cos, sin, out)[-1]
        assert_close(got, reference(spec, x, cos, sin), "elementwise")
