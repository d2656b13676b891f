"""Turns the hidden states of a prompt's tokens, chunk by chunk, into one vector: its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingot.errors import RequestError
from ingot.runtime.request_options import PoolingKind

if TYPE_CHECKING:
    from ingot.runtime.outputs import Chunk

Floats = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Pooling:
    """One prompt's embedding while it is read. A token that is computed again, because its pages
    were taken, is not counted again."""

    kind: PoolingKind
    num_tokens: int
    num_pooled: int = 0
    _sum: NDArray[np.float64] | None = None

    @property
    def needs_all_rows(self) -> bool:
        """Whether tokens in the prefix cache must be computed all the same."""
        return self.kind == "mean" and self.num_pooled < self.num_tokens

    def rows(self, start: int, num_rows: int) -> range:
        """Which of the rows of a chunk, whose first is the prompt's token `start`, are wanted."""
        first = self.num_pooled if self.kind == "mean" else self.num_tokens - 1
        return range(min(max(first - start, 0), num_rows), num_rows)

    def add(self, hidden: Floats) -> None:
        """Take the hidden states of the wanted rows, `[rows, width]`."""
        # In float64 the chunks that a prompt was read in don't show in the sum.
        total = hidden.sum(axis=0, dtype=np.float64)
        self._sum = total if self._sum is None else self._sum + total
        self.num_pooled += len(hidden)

    def result(self) -> Floats:
        assert self._sum is not None, "no row was taken"
        return (self._sum / self.num_pooled).astype(np.float32)


def take_embedding(chunks: Sequence[Chunk]) -> Floats:
    """The vector that the last of a request's chunks brings."""
    last = chunks[-1]
    if last.embedding is None:
        raise RequestError(
            f"the request ended before its embedding was there; the reason is {last.finish_reason}"
        )
    return last.embedding


def finish_embedding(vector: Floats, *, normalize: bool, dimensions: int | None = None) -> Floats:
    """Keep the first `dimensions`, as models trained for it allow, then make the length 1."""
    if dimensions is not None:
        if not 1 <= dimensions <= len(vector):
            raise RequestError(
                f"dimensions is {dimensions}; this model's embeddings have {len(vector)}"
            )
        vector = vector[:dimensions]
    if normalize:
        length = float(np.linalg.norm(vector.astype(np.float64)))
        vector = vector / np.float32(length or 1.0)
    return vector
