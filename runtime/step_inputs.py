"""Turns scheduled chunks into the arrays of the step function: all tokens in one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    slots: Int32s  # [n]: page * page_size + offset where the token's K and V go, -1 for nowhere
    page_table: Int32s  # [b, p], filled up with 0; may hold the page of the token after a step's
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

    def dimensions(self) -> dict[str, int]:
        b, p = self.page_table.shape
        return {"n": len(self.token_ids), "b": b, "p": p, "m": len(self.logit_rows)}


def build_step_inputs(
    chunks: Sequence[ScheduledChunk], page_size_tokens: int, logit_rows: Sequence[int]
) -> StepInputs:
    """`logit_rows` count the step's tokens. Where it is empty, the last token's row stands in: the
    step has no form without logits."""
    tokens: list[int] = []
    offsets, starts, shared, context_lengths = [0], [], [], []
    for chunk in chunks:
        sequence = chunk.sequence
        start = sequence.num_cached_tokens
        if chunk.num_tokens == 1:
            tokens.append(sequence.tokens[start])
        else:
            tokens += sequence.tokens[start : start + chunk.num_tokens]
            tokens += sequence.proposed[: chunk.num_proposed]
        offsets.append(len(tokens))
        starts.append(start)
        shared.append(sequence.num_shared_tokens)
        context_lengths.append(start + chunk.num_tokens)
    widest = -(-max(context_lengths) // page_size_tokens)
    if len(tokens) == len(chunks):
        # With pages that were given ahead. A prompt has all of its own before its chunks need them.
        widest = max([widest, *(len(c.sequence.pages) for c in chunks if c.is_last)])
    page_table = np.zeros((len(chunks), widest), np.int32)
    for row, chunk in zip(page_table, chunks, strict=True):
        pages = chunk.sequence.pages
        num_pages = min(len(pages), widest)
        row[:num_pages] = np.frombuffer(pages, np.int32, num_pages)
    query_offsets = np.array(offsets, np.int32)
    positions = np.array(starts, np.int32)
    owners = np.arange(len(chunks))
    if len(tokens) > len(chunks):
        owners = np.repeat(owners, np.diff(query_offsets))
        first_positions = positions - query_offsets[:-1]
        positions = np.arange(len(tokens), dtype=np.int32) + first_positions[owners]
    pages_before, offsets_in_page = np.divmod(positions, page_size_tokens)
    slots = page_table[owners, pages_before] * page_size_tokens + offsets_in_page
    if any(map(int.__gt__, shared, starts)):
        # A token whose page is shared runs again for its logits; its K and V are there.
        slots[positions < np.array(shared)[owners]] = -1
    return StepInputs(
        token_ids=np.array(tokens, np.int32),
        positions=positions,
        slots=slots,
        page_table=page_table,
        query_offsets=query_offsets,
        context_lengths=np.array(context_lengths, np.int32),
        logit_rows=np.array(logit_rows or [len(tokens) - 1], np.int32),
    )
