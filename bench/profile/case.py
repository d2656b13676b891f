"""A case, such as decode at batch 8 and context 512, to the dimensions and inputs of its step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ingot.errors import UsageError
from ingot.runtime.step_inputs import StepInputs


@dataclass(frozen=True, slots=True)
class Case:
    """`batch` sequences, each with `tokens` new tokens at the end of its `context`."""

    kind: Literal["prefill", "decode"]
    tokens: int
    batch: int
    context: int

    @property
    def name(self) -> str:
        what = f"prefill of {self.tokens} tokens" if self.kind == "prefill" else "decode"
        at = "" if self.kind == "prefill" else f", context {self.context:,}"
        return f"{what}, batch {self.batch}{at}"

    def check(self, max_context_tokens: int) -> None:
        if self.context > max_context_tokens:
            raise UsageError(
                f"the context is {self.context} tokens; the artifact holds {max_context_tokens}"
            )

    def num_pages(self, page_size: int) -> int:
        """Of one sequence."""
        return -(-self.context // page_size)

    def dimensions(self, page_size: int, window: int = 0) -> dict[str, int]:
        """The values of an amount's dimensions; attention reaches `window` tokens back, or all."""
        reach = min(window, self.context) if window else self.context
        first = self.context - self.tokens
        visible = sum(min(position + 1, reach) for position in range(first, self.context))
        return {
            "n": self.batch * self.tokens,
            "b": self.batch,
            "m": self.batch,
            "p": self.num_pages(page_size),
            "context": self.batch * min(self.context, reach + self.tokens - 1),
            "pairs": self.batch * visible,
        }

    def inputs(self, page_size: int, vocab_size: int) -> StepInputs:
        """Random tokens, in pages that lie side by side; what is cached before is zeros."""
        tokens, batch, pages = self.tokens, self.batch, self.num_pages(page_size)
        positions = np.tile(np.arange(self.context - tokens, self.context), batch)
        owners = np.repeat(np.arange(batch), tokens)
        slots = owners * pages * page_size + positions
        ids = np.random.default_rng(0).integers(0, vocab_size, batch * tokens)
        return StepInputs(
            token_ids=ids.astype(np.int32),
            positions=positions.astype(np.int32),
            slots=slots.astype(np.int32),
            page_table=np.arange(batch * pages, dtype=np.int32).reshape(batch, pages),
            query_offsets=np.arange(0, batch * tokens + 1, tokens, dtype=np.int32),
            context_lengths=np.full(batch, self.context, np.int32),
            logit_rows=np.arange(tokens - 1, batch * tokens, tokens, dtype=np.int32),
        )


def prefill(tokens: int, batch: int = 1) -> Case:
    """Whole prompts in one step."""
    return Case("prefill", tokens, batch, tokens)


def decode(context: int, batch: int = 1) -> Case:
    """One token for each sequence, the last of its context."""
    return Case("decode", 1, batch, context)
