"""Turns what a sequence said before into guesses: it may go on as it did then.

Every pair of tokens is indexed with its latest places as the sequence grows. The end of the
sequence is looked up there, the place with the longest common text before it wins, and what came
after it is proposed. While that comes true the place moves on and nothing is looked up. The cost
of a step does not grow with the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.proposer import Wish

KEY_TOKENS = 2  # what must agree at least
MAX_PLACES = 4  # of one pair, the latest
MAX_MATCH_TOKENS = 16  # more agreement than this is not told apart


@dataclass(slots=True)
class PairIndex:
    """Where each pair of tokens occurred: the places after it."""

    places: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    next_place: int = KEY_TOKENS
    followed: int | None = None  # the place after the end's match, when the index ended there

    def extend(self, tokens: Seq[int]) -> None:
        """Index all pairs that have a successor by now."""
        places, first, last = self.places, self.next_place, len(tokens)
        for place in range(first, last):
            pair = (tokens[place - 2], tokens[place - 1])
            found = places.get(pair)
            if found is None:
                places[pair] = [place]
            elif len(found) < MAX_PLACES:
                found.append(place)
            else:
                found.append(place)
                del found[0]
        if self.followed is not None:
            self.followed = self._move(tokens, self.followed, last - first)
        self.next_place = max(first, last)

    @staticmethod
    def _move(tokens: Seq[int], place: int, count: int) -> int | None:
        """The place that is followed, if the last tokens were those after it."""
        end = place + count
        return end if tokens[place:end] == tokens[len(tokens) - count :] else None

    def find(self, tokens: Seq[int]) -> int | None:
        """The place after an earlier text that ends as the sequence does."""
        if self.followed is None and len(tokens) >= KEY_TOKENS:
            self.followed = self._search(tokens)
        return self.followed

    def _search(self, tokens: Seq[int]) -> int | None:
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
        index = self._indices.get(wish.sequence)
        if index is None:
            index = self._indices[wish.sequence] = PairIndex()
        index.extend(tokens)
        place = index.find(tokens)
        if place is None:
            return []
        guess = tokens[place : place + wish.num_tokens]
        while len(guess) < wish.num_tokens:
            # What came then reaches the end: the sequence repeats itself, go round again.
            guess += guess[: wish.num_tokens - len(guess)]
        return guess

    def forget(self, sequence: Sequence) -> None:
        self._indices.pop(sequence, None)
