"""Whatever sequences do, every page is free or owned, never both and never lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.runtime.engine_stats import PageState
from ingot.runtime.kv import PagePool


def test_allocate_and_free() -> None:
    pool = PagePool(4, 16)
    first, second = pool.allocate(3), pool.allocate(1)
    assert (first, second) == ([0, 1, 2], [3])
    assert not pool.can_allocate(1)
    pool.free(first)
    assert (pool.num_available, pool.num_used) == (3, 1)
    pool.check_integrity([second])


@pytest.mark.parametrize(("tokens", "pages"), [(0, 0), (1, 1), (15, 1), (16, 1), (17, 2), (32, 2)])
def test_pages_for(tokens: int, pages: int) -> None:
    assert PagePool(4, 16).pages_for(tokens) == pages


def test_misuse_is_our_bug() -> None:
    pool = PagePool(2, 16)
    pages = pool.allocate(2)
    with pytest.raises(AssertionError, match="1 pages wanted, 0 free"):
        pool.allocate(1)
    pool.free(pages)
    with pytest.raises(AssertionError, match="freed twice"):
        pool.free(pages)
    with pytest.raises(AssertionError, match="can't be shared"):
        pool.share([0])


def test_integrity_sees_a_forgotten_holder() -> None:
    pool = PagePool(2, 16)
    pages = pool.allocate(1)
    with pytest.raises(AssertionError, match="disagree"):
        pool.check_integrity()
    pool.check_integrity([pages])


@pytest.mark.parametrize(("tokens", "num_shared"), [(31, 1), (32, 2), (33, 2)])
def test_fork_shares_full_pages_and_copies_the_last(tokens: int, num_shared: int) -> None:
    pool = PagePool(8, 16)
    pages = pool.allocate(3)
    fork = pool.fork(pages, tokens)
    assert fork.pages[:num_shared] == pages[:num_shared]
    assert pool.page_map()[:num_shared] == bytes([PageState.SHARED] * num_shared)
    expected = ((pages[num_shared], fork.pages[-1]),) if tokens % 16 else ()
    assert fork.copies == expected
    pool.check_integrity([pages, fork.pages])
    pool.free(pages)
    pool.check_integrity([fork.pages])
    pool.free(fork.pages)
    assert pool.num_used == 0


def test_a_named_page_is_found_until_it_is_needed() -> None:
    pool = PagePool(3, 16)
    pages = pool.allocate(2)
    for page, name in zip(pages, (b"one", b"two"), strict=True):
        pool.name(page, name)
    assert pool.find([b"one", b"two", b"three"]) == pages
    pool.free(pages)
    assert pool.page_map().count(PageState.CACHED) == 2
    assert (pool.num_available, pool.num_used) == (3, 0)
    assert pool.find([b"one", b"two"]) == pages, "with nobody's tokens in them"
    assert pool.allocate(1) == [2], "free pages go first"
    pool.allocate(1)
    assert pool.find([b"one", b"two"]) == pages[:1], "the end of a text goes before its start"
    assert pool.page_map() == bytes([PageState.CACHED, PageState.USED, PageState.USED])


def test_the_page_left_longest_ago_goes_first() -> None:
    pool = PagePool(3, 16)
    pages = pool.allocate(3)
    for page in pages:
        pool.name(page, bytes([page]))
    for page in (1, 2, 0):
        pool.free([page])
    pool.share([1])
    pool.free([1])
    assert [pool.allocate(1)[0] for _ in range(3)] == [2, 0, 1]


def test_sharing_a_cached_page_takes_it_from_what_is_available() -> None:
    pool = PagePool(3, 16)
    (page,) = pool.allocate(1)
    pool.name(page, b"one")
    pool.free([page])
    assert pool.can_allocate(3)
    assert pool.can_allocate(2, beside=[page])
    assert not pool.can_allocate(3, beside=[page])
    pool.share([page])
    pool.share([page])
    assert pool.page_map() == bytes([PageState.SHARED, PageState.FREE, PageState.FREE])
    pool.check_integrity([[page], [page]])


def test_of_two_pages_with_the_same_tokens_one_is_found() -> None:
    pool = PagePool(2, 16)
    pages = pool.allocate(2)
    for page in pages:
        pool.name(page, b"same")
    assert pool.find([b"same"]) == pages[:1]
    pool.free(pages)
    assert (pool.page_map().count(PageState.CACHED), pool.num_available) == (1, 2)
    pool.check_integrity()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), max_size=60))
def test_any_history_keeps_integrity(history: list[tuple[int, int]]) -> None:
    pool = PagePool(11, 4)
    held: list[list[int]] = []
    for action, amount in history:
        if action == 0 and pool.can_allocate(amount):
            held.append(pool.allocate(amount))
        elif action == 1 and held:
            pool.free(held.pop(amount % len(held)))
        elif action == 2 and held and pool.can_allocate(1):
            pages = held[amount % len(held)]
            held.append(pool.fork(pages, max(0, len(pages) * 4 - amount % 5)).pages)
        pool.check_integrity(held)
    for pages in held:
        pool.free(pages)
    pool.check_integrity()
    assert pool.num_available == 11
