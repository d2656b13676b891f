"""A case's dimensions, against counting, and its inputs, against the step's contract."""

import numpy as np
import pytest

from ingot.bench.profile.case import Case, decode, prefill
from ingot.errors import UsageError

PAGE = 16


@pytest.mark.parametrize("window", [0, 1, 7, 40])
@pytest.mark.parametrize("case", [prefill(33), prefill(5, 3), decode(40, 2), decode(1)])
def test_dimensions_are_what_counting_gives(case: Case, window: int) -> None:
    pairs = read = 0
    for _ in range(case.batch):
        keys = set()
        for query in range(case.context - case.tokens, case.context):
            seen = [k for k in range(query + 1) if not window or query - k < window]
            pairs += len(seen)
            keys |= set(seen)
        read += len(keys)
    found = case.dimensions(PAGE, window)
    assert (found["pairs"], found["context"]) == (pairs, read)
    assert found["n"] == case.batch * case.tokens
    assert (found["b"], found["m"]) == (case.batch, case.batch)


@pytest.mark.parametrize("case", [prefill(33, 2), decode(40, 3), decode(16)])
def test_inputs_keep_the_contract(case: Case) -> None:
    inputs = case.inputs(PAGE, 100)
    tokens = case.batch * case.tokens
    assert all(array.dtype == np.int32 for array in inputs.arrays())
    assert inputs.query_offsets.tolist() == [case.tokens * i for i in range(case.batch + 1)]
    assert inputs.logit_rows.tolist() == [case.tokens * (i + 1) - 1 for i in range(case.batch)]
    assert len(set(inputs.slots.tolist())) == tokens
    owners = np.repeat(np.arange(case.batch), case.tokens)
    pages = inputs.page_table[owners, inputs.positions // PAGE]
    np.testing.assert_array_equal(inputs.slots, pages * PAGE + inputs.positions % PAGE)
    assert inputs.positions[-1] == case.context - 1
    assert inputs.token_ids.max() < 100


def test_a_context_that_the_artifact_lacks_is_refused() -> None:
    decode(128).check(128)
    with pytest.raises(UsageError, match="129 tokens; the artifact holds 128"):
        decode(129).check(128)
