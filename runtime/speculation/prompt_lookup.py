"""Turns what a sequence said before into guesses: it may go on as it did then.

Every pair of tokens is indexed with its latest places as the sequence grows. The end of the
sequence is looked up there, the place with the longest common text before it wins, and what came
after it is proposed. The cost of a step does not grow with the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.proposer import Wish

KEY_TOKENS = 2  # what must agree at least
MAX_PLACES = 8  # of one pair, the latest
MAX_MATCH_TOKENS = 32  # more agreement than this is not told apart


@dataclass(slots=True)
class PairIndex:
    """Where each pair of tokens occurred: the places after it."""

    places: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    next_place: int = KEY_TOKENS

    def extend(self, tokens: Seq[int]) -> None:
        """Index all pairs that have a successor by now."""
        for place in range(self.next_place, len(tokens)):
            found = self.places.setdefault((tokens[place - 2], tokens[place - 1]), [])
            found.append(place)
            if len(found) > MAX_PLACES:
                del found[0]
        self.next_place = max(self.next_place, len(tokens))

    def find(self, tokens: Seq[int]) -> int | None:
        """The place after the longest earlier text that ends as the sequence does."""
        if len(tokens) < KEY_TOKENS:
            return None
        best, longest = None, 0
        for place in reversed(self.places.get((tokens[-2], tokens[-1]), ())):
            length = _common_end(tokens, place)
            if length > longest:
                best, longest = place, length
        return best


def _common_end(tokens: Seq[int], place: int) -> int:
    """How many tokens before `place` are those before the end."""
    longest = min(place, MAX_MATCH_TOKENS)
    length = KEY_TOKENS
    while length < longest and tokens[place - 1 - length] == tokens[-1 - length]:
        length += 1
    return length


class PromptLookup:
    """Proposes from prompt and output alike. Good where the answer repeats or edits its prompt."""

    guess_s = 0.0

    def __init__(self) -> None:
        self._indices: dict[Sequence, PairIndex] = {}

    def propose(self, wishes: Seq[Wish]) -> list[list[int]]:
        return [self._propose(wish) for wish in wishes]

    def _propose(self, wish: Wish) -> list[int]:
        tokens = wish.sequence.tokens
        index = self._indices.setdefault(wish.sequence, PairIndex())
        index.extend(tokens)
        place = index.find(tokens)
        if place is None:
            return []
        # Where what came then reaches the end, the sequence repeats itself: go round again.
        period = len(tokens) - place
        return [tokens[place + i % period] for i in range(wish.num_tokens)]

    def forget(self, sequence: Sequence) -> None:
        self._indices.pop(sequence, None)
