"""A page's name stands for its tokens and all before them."""

from ingot.runtime.kv import extend_page_hashes


def hashes(tokens: list[int], salt: str = "", page: int = 4) -> list[bytes]:
    found: list[bytes] = []
    extend_page_hashes(found, tokens, page, salt)
    return found


def test_only_full_pages_have_names() -> None:
    assert [len(hashes([7] * length)) for length in (0, 3, 4, 5, 8)] == [0, 0, 1, 1, 2]


def test_names_grow_with_the_tokens() -> None:
    tokens = list(range(20))
    grown: list[bytes] = []
    for length in range(21):
        extend_page_hashes(grown, tokens[:length], 4, "")
    assert grown == hashes(tokens)


def test_what_names_depend_on() -> None:
    same = hashes([1, 2, 3, 4, 5, 6, 7, 8])
    assert hashes([1, 2, 3, 4, 5, 6, 7, 8, 9]) == same
    assert hashes([1, 2, 3, 4, 5, 6, 7, 0])[0] == same[0]
    for other in (
        hashes([0, 2, 3, 4, 5, 6, 7, 8]),  # only the first page's tokens differ
        hashes([1, 2, 3, 4, 5, 6, 7, 8], salt="tenant"),
        hashes([2, 1, 3, 4, 6, 5, 7, 8]),
    ):
        assert not set(other) & set(same)
    assert len(set(hashes([7] * 40))) == 10, "equal pages in different places"
