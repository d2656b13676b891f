"""What the kernels of sampling choose from."""

from __future__ import annotations

from dataclasses import dataclass

WORD_BITS = 32


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """Rows of `vocab_size` logits; a row's mask has a bit a token, in words of 32."""

    vocab_size: int

    @property
    def num_words(self) -> int:
        return -(-self.vocab_size // WORD_BITS)
