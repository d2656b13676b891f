"""Turns the chunks of prompts whose embeddings are wanted into pooled hidden states."""

from __future__ import annotations

from collections.abc import Sequence

from ingot.runtime.executor import Executor
from ingot.runtime.scheduler import ScheduledChunk
from ingot.runtime.step_inputs import build_step_inputs


def pool_chunks(
    executor: Executor, chunks: Sequence[ScheduledChunk], page_size_tokens: int
) -> None:
    """Run the chunks up to the head, all in one step, and let each sequence's pooling have the
    rows that it wants. The caller advances the sequences."""
    places: list[int] = []
    counts: list[int] = []
    end = 0
    for chunk in chunks:
        start, end = end, end + chunk.num_tokens
        pooling = chunk.sequence.pooling
        assert pooling is not None
        wanted = pooling.rows(chunk.sequence.num_cached_tokens, chunk.num_tokens)
        places += [start + row for row in wanted]
        counts.append(len(wanted))
    hidden = executor.embed(build_step_inputs(chunks, page_size_tokens, places))
    first = 0
    for chunk, count in zip(chunks, counts, strict=True):
        if count:
            assert chunk.sequence.pooling is not None
            chunk.sequence.pooling.add(hidden[first : first + count])
        first += count
