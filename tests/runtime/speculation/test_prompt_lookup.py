"""The index finds what a search of the whole sequence finds."""

from hypothesis import given
from hypothesis import strategies as st

from ingot.runtime.speculation.prompt_lookup import (
    MAX_MATCH_TOKENS,
    MAX_PLACES,
    PairIndex,
    PromptLookup,
)
from ingot.runtime.speculation.proposer import Wish


class Talk:
    """What the proposer looks at of a sequence."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens


def guess(lookup: PromptLookup, talk: Talk, count: int) -> list[int]:
    return lookup.propose([Wish(talk, count)])[0]  # type: ignore[arg-type]


def search(tokens: list[int]) -> int | None:
    """The definition: of the latest places after the last pair, the one with the longest match."""
    pair = tokens[-2:]
    places = [i for i in range(2, len(tokens)) if tokens[i - 2 : i] == pair][-MAX_PLACES:]
    lengths = {}
    for place in places:
        length = 0
        while (
            length < min(place, MAX_MATCH_TOKENS)
            and tokens[place - 1 - length] == tokens[-1 - length]
        ):
            length += 1
        lengths[place] = length
    return max(places, key=lambda place: (lengths[place], place), default=None)


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 60))
def test_as_a_search_of_everything(tokens: list[int], first: int) -> None:
    index = PairIndex()
    index.extend(tokens[:first])
    index.extend(tokens)
    assert index.find(tokens) == (search(tokens) if len(tokens) >= 2 else None)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=40), st.lists(st.integers(0, 2)))
def test_what_is_followed_ends_alike(tokens: list[int], more: list[int]) -> None:
    index = PairIndex()
    index.extend(tokens)
    place = index.find(tokens)
    for token in more:
        tokens = [*tokens, token]
        index.extend(tokens)
        expected = search(tokens)
        if place is not None and place + 1 < len(tokens) and tokens[place] == token:
            expected = place + 1  # it came true: no other place is looked for
        place = index.find(tokens)
        assert place == expected
        assert place is None or tokens[place - 2 : place] == tokens[-2:]


def test_goes_on_as_before() -> None:
    lookup = PromptLookup()
    talk = Talk([1, 2, 3, 4, 5, 9, 2, 3])
    assert guess(lookup, talk, 3) == [4, 5, 9]
    talk.tokens += [4, 5]
    assert guess(lookup, talk, 2) == [9, 2]
    talk.tokens.append(7)
    assert guess(lookup, talk, 2) == []


def test_the_longest_match_wins() -> None:
    talk = Talk([8, 1, 2, 3, 50, 1, 2, 60, 8, 1, 2])
    assert guess(PromptLookup(), talk, 2) == [3, 50]


def test_a_period_goes_round() -> None:
    assert guess(PromptLookup(), Talk([5, 1, 2, 3, 1, 2, 3, 1, 2]), 7) == [3, 1, 2, 3, 1, 2, 3]
    assert guess(PromptLookup(), Talk([7, 7, 7]), 4) == [7] * 4


def test_nothing_to_look_at() -> None:
    lookup = PromptLookup()
    assert guess(lookup, Talk([4]), 3) == []
    assert guess(lookup, Talk([4, 5]), 3) == []


def test_forgets() -> None:
    lookup = PromptLookup()
    talk = Talk([1, 2, 1, 2])
    guess(lookup, talk, 1)
    lookup.forget(talk)  # type: ignore[arg-type]
    lookup.forget(talk)  # type: ignore[arg-type]
    assert not lookup._indices
