"""Turns a step that decodes into the one that follows it, while its tokens are not yet known."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from ingot.runtime.step_inputs import StepInputs


def follow(inputs: StepInputs, page_size_tokens: int, max_context_tokens: int) -> StepInputs | None:
    """The next step if all sequences go on and no other comes: each reads the token that it samples
    now, one place on. Token ids are zeros, for the device to fill.

    None where a sequence samples nothing, or needs a page that the scheduler has not given yet.
    What the step writes harms nobody if it turns out wrong: its slots are in pages of the
    sequences' own, behind all that was counted as written.
    """
    num_rows = len(inputs.token_ids)
    if not np.array_equal(inputs.logit_rows, np.arange(num_rows)):
        return None
    positions = inputs.positions + 1
    if (inputs.slots < 0).any() or positions.max() >= max_context_tokens:
        return None
    slots = inputs.slots + 1
    (entering,) = np.nonzero(positions % page_size_tokens == 0)
    if entering.size:
        numbers = positions[entering] // page_size_tokens
        if numbers.max() >= inputs.page_table.shape[1]:
            return None
        pages = inputs.page_table[entering, numbers]
        if not pages.all():  # tables are filled up with 0: page 0 itself is not told from none
            return None
        slots[entering] = pages * page_size_tokens
    return StepInputs(
        token_ids=np.zeros_like(inputs.token_ids),
        positions=positions,
        slots=slots,
        page_table=inputs.page_table,
        query_offsets=inputs.query_offsets,
        context_lengths=inputs.context_lengths + 1,
        logit_rows=inputs.logit_rows,
    )


def goes_on(before: StepInputs, now: StepInputs) -> bool:
    """Whether the same sequences, it seems, have each read one token more."""
    return np.array_equal(before.positions + 1, now.positions)


def is_same(first: StepInputs, second: StepInputs, page_size_tokens: int) -> bool:
    """Whether two steps read and write the same; pages that neither reads may differ."""
    others = (field.name for field in fields(StepInputs) if field.name != "page_table")
    if not all(np.array_equal(getattr(first, name), getattr(second, name)) for name in others):
        return False
    counts = -(-first.context_lengths // page_size_tokens)
    is_read = np.arange(counts.max()) < counts[:, None]
    one, other = (step.page_table[:, : counts.max()][is_read] for step in (first, second))
    return np.array_equal(one, other)
