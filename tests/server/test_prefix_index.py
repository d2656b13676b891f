"""Where prompts are sent: to whoever was sent their beginning, unless too busy."""

import pytest

from ingot.runtime.server.prefix_index import MAX_LEAD, PrefixIndex, rank_replicas

PROMPT = list(range(40))


@pytest.fixture
def index() -> PrefixIndex:
    index = PrefixIndex(block_tokens=10)
    index.record(PROMPT, "", "a")
    return index


def count(index: PrefixIndex, tokens: list[int], salt: str = "") -> dict[str, int]:
    return index.count_known(tokens, salt, ("a", "b"))


def test_whole_blocks_from_the_beginning_count(index: PrefixIndex) -> None:
    assert count(index, PROMPT) == {"a": 4, "b": 0}
    assert count(index, PROMPT[:39]) == {"a": 3, "b": 0}
    assert count(index, PROMPT[:9]) == {"a": 0, "b": 0}
    assert count(index, [*PROMPT[:25], 99, *PROMPT[26:]]) == {"a": 2, "b": 0}
    assert count(index, PROMPT[10:]) == {"a": 0, "b": 0}  # the same blocks, elsewhere


def test_salts_are_apart(index: PrefixIndex) -> None:
    assert count(index, PROMPT, "tenant") == {"a": 0, "b": 0}


def test_two_replicas_may_know_the_same(index: PrefixIndex) -> None:
    index.record(PROMPT[:20], "", "b")
    assert count(index, PROMPT) == {"a": 4, "b": 2}


def test_the_oldest_blocks_are_forgotten() -> None:
    index = PrefixIndex(block_tokens=1, max_blocks=3)
    index.record([1, 2], "", "a")
    index.record([7, 8], "", "b")
    assert len(index) == 3
    assert index.count_known([7, 8], "", ("b",)) == {"b": 2}
    assert index.count_known([1, 2], "", ("a",)) == {"a": 0}


def test_a_replica_that_is_gone_knows_nothing(index: PrefixIndex) -> None:
    index.record(PROMPT[:10], "", "b")
    index.forget_all_but(("b",))
    assert count(index, PROMPT) == {"a": 0, "b": 1}
    assert len(index) == 1


def test_ranks() -> None:
    assert rank_replicas({}, {"a": 3, "b": 1, "c": 2}, {}) == ["b", "c", "a"]
    assert rank_replicas({"a": 2, "b": 0}, {"a": MAX_LEAD - 1, "b": 0}, {}) == ["a", "b"]
    assert rank_replicas({"a": 2, "b": 0}, {"a": MAX_LEAD, "b": 0}, {}) == ["b", "a"]
    # equals take turns: what they were sent just now isn't counted yet
    assert rank_replicas({}, {"a": 0, "b": 0, "c": 0}, {"a": 3, "b": 2}) == ["c", "b", "a"]
    assert rank_replicas({}, {"a": 0, "b": 1}, {"a": 3, "b": 2}) == ["a", "b"]
