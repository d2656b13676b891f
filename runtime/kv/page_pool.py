"""Turns a number of pages into owned, shared, cached and free ones.

Pure accounting: the pages' bytes belong to the executor. A page has as many owners as sequences
hold it. One without owners is free, or cached if it has a name (`page_hash.py`): its bytes are kept
until all free pages are given away, and then the page that was left longest ago goes first.
"""

from __future__ import annotations

from collections import OrderedDict
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
        self._page_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()  # the longest left first

    @property
    def num_available(self) -> int:
        """Pages that `allocate` can give: free and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def num_used(self) -> int:
        """Pages that somebody owns."""
        return self.num_pages - self.num_available

    def pages_for(self, num_tokens: int) -> int:
        """How many pages hold that many tokens."""
        return -(-num_tokens // self.page_size_tokens)

    def can_allocate(self, num_pages: int, beside: Iterable[int] = ()) -> bool:
        """Whether there are so many after `beside`, pages that were found, have been shared."""
        taken = sum(page in self._cached for page in beside)
        return num_pages <= self.num_available - taken

    def allocate(self, num_pages: int) -> list[int]:
        """Take pages for one owner. The caller has asked `can_allocate`."""
        assert num_pages <= self.num_available, (
            f"{num_pages} pages wanted, {self.num_available} free"
        )
        pages = [self._free.pop() if self._free else self._evict() for _ in range(num_pages)]
        for page in pages:
            self._num_owners[page] = 1
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """Give each page, owned or cached, one more owner."""
        for page in pages:
            if self._num_owners[page] == 0:
                assert page in self._cached, f"page {page} is free and can't be shared"
                del self._cached[page]
            self._num_owners[page] += 1

    def free(self, pages: Sequence[int]) -> None:
        """Take one owner from each page of a sequence. The last page is the first to go: pages at
        the start are of use to more prompts, and without them the others can't be found."""
        for page in reversed(pages):
            assert self._num_owners[page] > 0, f"page {page} is freed twice"
            self._num_owners[page] -= 1
            if self._num_owners[page] > 0:
                continue
            if page in self._hash_of:
                self._cached[page] = None
            else:
                self._free.append(page)

    def name(self, page: int, page_hash: bytes) -> None:
        """Let a full page be found. Where two have the same tokens, the first keeps the name."""
        assert self._num_owners[page] > 0 and page not in self._hash_of
        if page_hash not in self._page_of:
            self._page_of[page_hash] = page
            self._hash_of[page] = page_hash

    def find(self, page_hashes: Iterable[bytes]) -> list[int]:
        """The pages of the longest known start. They are not owned before `share`."""
        pages: list[int] = []
        for page_hash in page_hashes:
            page = self._page_of.get(page_hash)
            if page is None:
                break
            pages.append(page)
        return pages

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

    def page_map(self) -> bytes:
        """A byte for each page, its `PageState`."""
        states = (PageState.FREE, PageState.USED, PageState.SHARED)
        page_map = bytearray(states[min(owners, 2)] for owners in self._num_owners)
        for page in self._cached:
            page_map[page] = PageState.CACHED
        return bytes(page_map)

    def _evict(self) -> int:
        page, _ = self._cached.popitem(last=False)
        del self._page_of[self._hash_of.pop(page)]
        return page

    def check_integrity(self, holders: Iterable[Sequence[int]] = ()) -> None:
        """Assert that free, cached and owned pages are all there are, and that `holders`, the page
        lists of all sequences, explain every owner."""
        idle = [*self._free, *self._cached]
        assert len(set(idle)) == len(idle), "a page is free twice"
        for page in idle:
            assert self._num_owners[page] == 0, f"page {page} is free and has owners"
        assert self._num_owners.count(0) == len(idle), "a page is lost"
        assert set(self._cached) <= set(self._hash_of), "a cached page can't be found"
        assert {h: p for p, h in self._hash_of.items()} == self._page_of, "names disagree"
        assert not set(self._free) & set(self._hash_of), "a free page has a name"
        counts = [0] * self.num_pages
        for pages in holders:
            for page in pages:
                counts[page] += 1
        assert counts == self._num_owners, "owners and page lists disagree"
