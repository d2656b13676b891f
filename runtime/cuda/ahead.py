"""Turns a step that decodes into the one that follows it, while its tokens are not yet known."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.step_inputs import StepInputs

_OTHERS = tuple(field.name for field in fields(StepInputs) if field.name != "page_table")


@lru_cache(maxsize=256)
def _count_to(end: int) -> NDArray[np.int32]:
    """The numbers from 0 on. Nobody writes to it."""
    return np.arange(end, dtype=np.int32)


def _alike(first: NDArray[np.int32], second: NDArray[np.int32]) -> bool:
    """As `np.array_equal`, in a tenth of its time for arrays as short as a step's."""
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def follow(inputs: StepInputs, page_size_tokens: int, max_context_tokens: int) -> StepInputs | None:
    """The next step if all sequences go on and no other comes: each reads the token that it samples
    now, one place on. Token ids are zeros, for the device to fill.

    None where a sequence samples nothing, or needs a page that the scheduler has not given yet.
    What the step writes harms nobody if it turns out wrong: its slots are in pages of the
    sequences' own, behind all that was counted as written.
    """
    num_rows = len(inputs.token_ids)
    if not _alike(inputs.logit_rows, _count_to(num_rows)):
        return None
    positions = inputs.positions + 1
    if inputs.slots.min() < 0 or positions.max() >= max_context_tokens:
        return None
    slots = inputs.slots + 1
    offsets = positions % page_size_tokens
    if not offsets.all():
        (entering,) = np.nonzero(offsets == 0)
        numbers = positions[entering] // page_size_tokens
        if numbers.max() >= inputs.page_table.shape[1]:
            return None
        pages = inputs.page_table[entering, numbers]
        if not pages.all():  # tables are filled up with 0: page 0 itself is not told from none
            return None
        slots[entering] = pages * page_size_tokens
    return StepInputs(
        token_ids=np.zeros(num_rows, np.int32),
        positions=positions,
        slots=slots,
        page_table=inputs.page_table,
        query_offsets=inputs.query_offsets,
        context_lengths=inputs.context_lengths + 1,
        logit_rows=inputs.logit_rows,
    )


def goes_on(before: StepInputs, now: StepInputs) -> bool:
    """Whether the same sequences, it seems, have each read one token more."""
    return _alike(before.positions + 1, now.positions)


def is_same(first: StepInputs, second: StepInputs, page_size_tokens: int) -> bool:
    """Whether two steps read and write the same; pages that neither reads may differ."""
    if not all(_alike(getattr(first, name), getattr(second, name)) for name in _OTHERS):
        return False
    if _alike(first.page_table, second.page_table):
        return True
    counts = -(-first.context_lengths // page_size_tokens)
    is_read = _count_to(counts.max()) < counts[:, None]
    one, other = (step.page_table[:, : counts.max()][is_read] for step in (first, second))
    return np.array_equal(one, other)
