"""Turns what a sequence said before into guesses: it may go on as it did then.

The last tokens are searched in the text before them, several at first and then fewer; what came
after the latest place is proposed. While that comes true the place moves on and nothing is
searched. A search runs over bytes, which is quicker than keeping an index of every prompt.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.proposer import Wish

MATCHES = (8, 4, 3, 2)  # how many tokens must agree, tried in this order
MAX_SEARCHED = 16_384  # of the latest tokens: some microseconds
WIDTH = array("i").itemsize


@dataclass(slots=True)
class Past:
    """A sequence's tokens, to be searched."""

    tokens: array[int] = field(default_factory=lambda: array("i"))
    place: int | None = None  # after what agrees with the end

    def extend(self, tokens: Seq[int]) -> None:
        """Take the sequence's new tokens. The place moves on if they are what came there."""
        new = array("i", tokens[len(self.tokens) :])
        if self.place is not None:
            end = self.place + len(new)
            self.tokens.extend(new)
            self.place = end if self.tokens[self.place : end] == new else None
        else:
            self.tokens.extend(new)

    def find(self) -> int | None:
        """The place after an earlier text that ends as the sequence does."""
        if self.place is None:
            start = max(0, len(self.tokens) - MAX_SEARCHED)
            data = self.tokens[start:].tobytes()
            for count in MATCHES:
                at = _rfind(data, count)
                if at is not None:
                    self.place = start + at + count
                    break
        return self.place


def _rfind(data: bytes, count: int) -> int | None:
    """Where the last `count` tokens begin the last time before the end."""
    if len(data) <= count * WIDTH:
        return None
    end = data[-count * WIDTH :]
    at = data.rfind(end, 0, len(data) - WIDTH)
    while at >= 0 and at % WIDTH:  # between two tokens
        at = data.rfind(end, 0, at + len(end) - 1)
    return at // WIDTH if at >= 0 else None


class PromptLookup:
    """Proposes from prompt and output alike. Good where the answer repeats or edits its prompt."""

    guess_s = 0.0

    def __init__(self) -> None:
        self._pasts: dict[Sequence, Past] = {}

    def propose(self, wishes: Seq[Wish]) -> list[list[int]]:
        return [self._propose(wish) for wish in wishes]

    def _propose(self, wish: Wish) -> list[int]:
        past = self._pasts.get(wish.sequence)
        if past is None:
            past = self._pasts[wish.sequence] = Past()
        past.extend(wish.sequence.tokens)
        place = past.find()
        if place is None:
            return []
        guess = past.tokens[place : place + wish.num_tokens].tolist()
        while len(guess) < wish.num_tokens:
            # What came then reaches the end: the sequence repeats itself, go round again.
            guess += guess[: wish.num_tokens - len(guess)]
        return guess

    def forget(self, sequence: Sequence) -> None:
        self._pasts.pop(sequence, None)
