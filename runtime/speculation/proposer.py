"""Turns sequences into guesses of their next tokens; the step function checks every guess."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from ingot.runtime.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Wish:
    """At most `num_tokens` guesses for a sequence are wanted."""

    sequence: Sequence
    num_tokens: int


class Proposer(Protocol):
    """Guesses that cost time are asked for when their number is known, free ones before."""

    guess_s: float  # the least that one guess takes; 0 if nearly nothing

    def propose(self, wishes: Seq[Wish]) -> list[list[int]]:
        """The guesses for each wish, perhaps none. Changes nothing that shows in the output."""

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended or gave up its place."""
