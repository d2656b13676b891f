"""The search over bytes finds what a search over tokens finds."""

from hypothesis import given
from hypothesis import strategies as st

from ingot.runtime.speculation.prompt_lookup import MATCHES, Past, PromptLookup
from ingot.runtime.speculation.proposer import Wish


class Talk:
    """What the proposer looks at of a sequence."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens


def guess(lookup: PromptLookup, talk: Talk, count: int) -> list[int]:
    return lookup.propose([Wish(talk, count)])[0]  # type: ignore[arg-type]


def search(tokens: list[int]) -> int | None:
    """The definition: after the latest earlier text that is the last 8 tokens, else fewer."""
    for count in MATCHES:
        for start in range(len(tokens) - count - 1, -1, -1):
            if tokens[start : start + count] == tokens[-count:]:
                return start + count
    return None


# Tokens whose bytes look alike from one token into the next, too.
alike = st.sampled_from([0, 1, 256, 65536, 257])


@given(st.lists(alike, max_size=60), st.integers(0, 60))
def test_as_a_search_of_everything(tokens: list[int], first: int) -> None:
    past = Past()
    past.extend(tokens[:first])
    past.extend(tokens)
    assert past.find() == search(tokens)


@given(st.lists(alike, min_size=2, max_size=40), st.lists(alike))
def test_what_comes_true_is_followed(tokens: list[int], more: list[int]) -> None:
    past = Past()
    past.extend(tokens)
    place = past.find()
    for token in more:
        came_true = place is not None and tokens[place] == token
        tokens = [*tokens, token]
        past.extend(tokens)
        place = place + 1 if came_true and place is not None else search(tokens)
        assert past.find() == place


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
    assert not lookup._pasts
