"""The embedding kernel gathers exactly what the tied linear layer's tensors hold."""

import itertools

import numpy as np
import pytest

from ingot.compile.kernels import matmul
from ingot.compile.kernels.embedding import EmbeddingSpec, reference
from ingot.compile.schemes import FORMATS, formats_for
from ingot.targets import detect_cpu, load_targets
from tests.compile.kernels.conftest import compile_op

TARGETS = load_targets()
CASES = [
    *itertools.product(formats_for("cpu"), ("cpu:x86-64-v3", "cpu:znver4")),
    *itertools.product(formats_for("cuda"), ("cuda:sm_90",)),
]


@pytest.mark.parametrize(("code", "target_name"), CASES)
def test_rows_are_exact(code: str, target_name: str) -> None:
    target = TARGETS[target_name]
    spec = EmbeddingSpec(101, 70, FORMATS[code], "int8")
    rng = np.random.default_rng(0)
    table = rng.standard_normal((101, 70), dtype=np.float32)
    run = compile_op("embedding", spec, target)
    if not set(target.features) <= set(detect_cpu().features):
        return
    packed = matmul.pack(table, spec.table, target)
    for n in (0, 1, 7, 23):
        token_ids = rng.integers(0, 101, n).astype(np.int32)
        token_ids[:1] = 100
        got = run(token_ids, *packed, np.full((n, 70), np.nan, np.float32))[-1]
        want = reference.embedding(token_ids, table, spec.format)
        np.testing.assert_array_equal(got, want.astype(np.float32))
