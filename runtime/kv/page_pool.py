"""Turns a number of pages into owned, shared and free ones.

Pure accounting: the pages' bytes belong to the executor. A page has as many owners as sequences
hold it, and is free when it has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingot.runtime.engine_stats import PageState


@dataclass(frozen=True, slots=True)
class Fork:
    """A second owner's pages. `copies` are (source, destination) pages whose bytes must be copied
    before either owner writes again: the last page, when it is only partly filled."""

    pages: list[int]
    copies: tuple[tuple[int, int], ...]


class PagePool:
    """Pages 0 .. num_pages-1 of `page_size_tokens` tokens each."""

    def __init__(self, num_pages: int, page_size_tokens: int) -> None:
        assert num_pages > 0 and page_size_tokens > 0
        self.num_pages = num_pages
        self.page_size_tokens = page_size_tokens
        self._num_owners = [0] * num_pages
        # A stack, lowest page on top: memory that was never touched stays so as long as possible.
        self._free = list(range(num_pages - 1, -1, -1))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_pages - len(self._free)

    @property
    def capacity_tokens(self) -> int:
        return self.num_pages * self.page_size_tokens

    def pages_for(self, num_tokens: int) -> int:
        """How many pages hold that many tokens."""
        return -(-num_tokens // self.page_size_tokens)

    def can_allocate(self, num_pages: int) -> bool:
        return num_pages <= len(self._free)

    def allocate(self, num_pages: int) -> list[int]:
        """Take free pages for one owner. The caller has asked `can_allocate`."""
        assert self.can_allocate(num_pages), f"{num_pages} pages wanted, {self.num_free} free"
        pages = [self._free.pop() for _ in range(num_pages)]
        for page in pages:
            self._num_owners[page] = 1
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """Give each page one more owner."""
        for page in pages:
            assert self._num_owners[page] > 0, f"page {page} is free and can't be shared"
            self._num_owners[page] += 1

    def free(self, pages: Iterable[int]) -> None:
        """Take one owner from each page; a page without owners is free again."""
        for page in pages:
            assert self._num_owners[page] > 0, f"page {page} is freed twice"
            self._num_owners[page] -= 1
            if self._num_owners[page] == 0:
                self._free.append(page)

    def num_owners(self, page: int) -> int:
        return self._num_owners[page]

    def page_map(self) -> bytes:
        """One PageState for each page."""
        states = (PageState.FREE, PageState.USED, PageState.SHARED)
        return bytes(states[min(owners, 2)] for owners in self._num_owners)

    def fork(self, pages: Sequence[int], num_tokens: int) -> Fork:
        """Give a second sequence the same `num_tokens` tokens: full pages are shared, a partly
        filled last page gets a copy. The caller has asked `can_allocate(1)`."""
        num_full, rest = divmod(num_tokens, self.page_size_tokens)
        full = list(pages[:num_full])
        self.share(full)
        if not rest:
            return Fork(full, ())
        copy = self.allocate(1)
        return Fork(full + copy, ((pages[num_full], copy[0]),))

    def check_integrity(self, holders: Iterable[Sequence[int]] = ()) -> None:
        """Assert that free and owned pages are all there are, and that `holders`, the page lists
        of all sequences, explain every owner."""
        assert len(set(self._free)) == len(self._free), "a page is free twice"
        for page in self._free:
            assert self._num_owners[page] == 0, f"page {page} is free and has owners"
        assert self._num_owners.count(0) == len(self._free), "a page is lost"
        counts = [0] * self.num_pages
        for pages in holders:
            for page in pages:
                counts[page] += 1
        assert counts == self._num_owners, "owners and page lists disagree"
