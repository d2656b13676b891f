"""Turns a step that decodes into the one that follows it, while its tokens are not yet known."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from ingot.runtime.step_inputs import StepInputs


def follow(inputs: StepInputs, page_size_tokens: int, max_context_tokens: int) -> StepInputs | None:
    """The next step if all sequences go on and no other comes: each reads the token that it samples
    now, one place on in the same page. Token ids are zeros, for the device to fill.

    None where a sequence samples nothing, or needs a page that only the scheduler can give. What
    the step writes harms nobody if it turns out wrong: its slots are in pages of the sequences'
    own, behind all that was counted as written.
    """
    num_rows = len(inputs.token_ids)
    if not np.array_equal(inputs.logit_rows, np.arange(num_rows)):
        return None
    slots = inputs.slots + 1
    if (inputs.slots < 0).any() or (slots % page_size_tokens == 0).any():
        return None
    positions = inputs.positions + 1
    if positions.max() >= max_context_tokens:
        return None
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


def is_same(first: StepInputs, second: StepInputs) -> bool:
    return all(
        np.array_equal(getattr(first, field.name), getattr(second, field.name))
        for field in fields(StepInputs)
    )
