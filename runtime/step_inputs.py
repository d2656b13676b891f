"""Turns scheduled chunks into the arrays of the step function: all tokens in one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.scheduler import ScheduledChunk

Int32s = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class StepInputs:
    """The arguments of `step` before the KV pools, in order. n tokens, b sequences, p pages of the
    widest sequence, m rows that want logits."""

    token_ids: Int32s  # [n]
    positions: Int32s  # [n]
    slots: Int32s  # [n]: page * page_size + offset where the token's K and V go
    page_table: Int32s  # [b, p], filled up with 0
    query_offsets: Int32s  # [b + 1]: tokens of sequence s are [offsets[s], offsets[s + 1])
    context_lengths: Int32s  # [b]: tokens in the cache after the step
    logit_rows: Int32s  # [m]

    def arrays(self) -> tuple[Int32s, ...]:
        return (
            self.token_ids,
            self.positions,
            self.slots,
            self.page_table,
            self.query_offsets,
            self.context_lengths,
            self.logit_rows,
        )


def build_step_inputs(chunks: Sequence[ScheduledChunk], page_size_tokens: int) -> StepInputs:
    """One logit row for each chunk that is its sequence's last, in order.

    Where no chunk is, the last token's row stands in: the step has no form without logits.
    """
    lengths = np.array([chunk.num_tokens for chunk in chunks], np.int32)
    offsets = np.zeros(len(chunks) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    num_tokens = int(offsets[-1])
    starts = np.array([chunk.sequence.num_cached_tokens for chunk in chunks], np.int32)
    context_lengths = starts + lengths
    widest = -(-int(context_lengths.max()) // page_size_tokens)
    page_table = np.zeros((len(chunks), widest), np.int32)
    token_ids = np.empty(num_tokens, np.int32)
    for row, (chunk, start) in enumerate(zip(chunks, starts.tolist(), strict=True)):
        pages = chunk.sequence.pages[:widest]
        page_table[row, : len(pages)] = pages
        token_ids[offsets[row] : offsets[row + 1]] = chunk.sequence.tokens[
            start : start + chunk.num_tokens
        ]
    owners = np.repeat(np.arange(len(chunks)), lengths)
    positions = np.arange(num_tokens, dtype=np.int32) + (starts - offsets[:-1])[owners]
    pages_of_tokens = page_table[owners, positions // page_size_tokens]
    is_last = np.array([chunk.is_last for chunk in chunks])
    rows: NDArray[Any] = offsets[1:][is_last] - 1
    return StepInputs(
        token_ids=token_ids,
        positions=positions.astype(np.int32),
        slots=(pages_of_tokens * page_size_tokens + positions % page_size_tokens).astype(np.int32),
        page_table=page_table,
        query_offsets=offsets,
        context_lengths=context_lengths.astype(np.int32),
        logit_rows=rows if rows.size else np.array([num_tokens - 1], np.int32),
    )
