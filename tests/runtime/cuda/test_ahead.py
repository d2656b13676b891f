"""The step that follows one that decodes, and where it can't be known."""

from dataclasses import replace

import numpy as np

from ingot.runtime.cuda.ahead import follow, goes_on, is_same
from ingot.runtime.step_inputs import StepInputs


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


# Pages of 16 tokens: one sequence is in the middle of page 3, one at the end of page 7.
STEP = StepInputs(
    token_ids=ints(5, 6),
    positions=ints(3, 30),
    slots=ints(51, 126),
    page_table=np.array([[3, 0], [2, 7]], np.int32),
    query_offsets=ints(0, 1, 2),
    context_lengths=ints(4, 31),
    logit_rows=ints(0, 1),
)


def test_each_sequence_reads_one_more() -> None:
    following = follow(STEP, 16, 64)
    assert following is not None
    assert following.positions.tolist() == [4, 31]
    assert following.slots.tolist() == [52, 127]
    assert following.context_lengths.tolist() == [5, 32]
    assert is_same(following, replace(following), 16) and not is_same(STEP, following, 16)
    assert goes_on(STEP, following) and not goes_on(following, STEP)


def test_a_page_that_the_scheduler_must_give() -> None:
    following = follow(STEP, 16, 64)
    assert following is not None
    assert follow(following, 16, 64) is None
    wider = replace(following, page_table=np.array([[3, 0, 0], [2, 7, 0]], np.int32))
    assert follow(wider, 16, 64) is None


def test_a_page_that_was_given_ahead() -> None:
    following = follow(STEP, 16, 64)
    assert following is not None
    given = replace(following, page_table=np.array([[3, 0, 0], [2, 7, 5]], np.int32))
    entered = follow(given, 16, 64)
    assert entered is not None
    assert entered.positions.tolist() == [5, 32]
    assert entered.slots.tolist() == [53, 80]
    # What the next step has in its table beyond what it reads makes no difference.
    beyond = np.array([[3, 9, 0, 0], [2, 7, 5, 8]], np.int32)
    assert is_same(entered, replace(entered, page_table=beyond), 16)
    read = np.array([[3, 0, 0], [2, 7, 6]], np.int32)
    assert not is_same(entered, replace(entered, page_table=read), 16)


def test_the_end_of_the_context() -> None:
    assert follow(STEP, 16, 31) is None


def test_a_row_that_samples_nothing_or_writes_nothing() -> None:
    assert follow(replace(STEP, logit_rows=ints(1)), 16, 64) is None
    assert follow(replace(STEP, slots=ints(-1, 126)), 16, 64) is None


def test_sequences_that_came_or_went() -> None:
    following = follow(STEP, 16, 64)
    assert following is not None
    assert not goes_on(STEP, replace(following, positions=ints(4)))
    assert not goes_on(STEP, replace(following, positions=ints(31, 4)))
    assert not is_same(following, replace(following, token_ids=ints(0, 1)), 16)
    moved = np.array([[4, 0], [2, 7]], np.int32)
    assert not is_same(following, replace(following, page_table=moved), 16)
