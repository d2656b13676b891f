"""Rows come out exactly, in any order, repeated or none at all."""

import numpy as np

from ingot.compile.kernels.gather_rows.reference import reference
from ingot.compile.kernels.gather_rows.spec import GatherRowsSpec
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_op, normal


def test_matches_reference(target: Target) -> None:
    run = compile_op("gather_rows", GatherRowsSpec(77), target)
    x = normal(9, 77)
    for rows in ([], [8], [3, 0, 8, 3]):
        index = np.array(rows, np.int32)
        got = run(x, index, np.zeros((len(rows), 77), np.float32))[-1]
        np.testing.assert_array_equal(got, reference(x, index))
