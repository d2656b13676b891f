"""Rows come out exactly, in any order, repeated or none at all."""

from typing import Any

import numpy as np
import pytest

from ingot.compile.kernels.gather_rows.cpu import GatherRowsSpec
from ingot.compile.kernels.gather_rows.reference import reference
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_op, normal


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_matches_reference(dtype: Any, target: Target) -> None:
    run = compile_op("gather_rows", GatherRowsSpec(77, dtype), target)
    x = normal(9, 77)
    for rows in ([], [8], [3, 0, 8, 3]):
        index = np.array(rows, dtype)
        got = run(x, index, np.zeros((len(rows), 77), np.float32))[-1]
        np.testing.assert_array_equal(got, reference(x, index))
