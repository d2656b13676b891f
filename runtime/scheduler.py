"""Turns the waiting and running sequences into the chunks of the next step.

Continuous batching: by priority, then first come, first served. Every running sequence that decodes
gets its token first, then prompts are read in chunks with what is left of the step's token budget:
between two tokens of a stream lies at most one step of `max_step_tokens` tokens, however long the
prompts of others are.

A sequence gets the pages of all its tokens when it is admitted, those of a known start from the
cache, and then one at a time, a token early where the device runs ahead. When pages run out, the
newest running sequence of the lowest priority gives its up and waits to be computed again from its
tokens, or from its own pages if nobody has needed them. A waiting sequence of higher priority takes
the place of such a one.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from ingot.runtime.kv import PagePool, extend_page_hashes
from ingot.runtime.sequence import Sequence

RANK = attrgetter("rank")
# Logits of more rows at once, for the probabilities of a prompt, would take too much memory.
MAX_PROMPT_LOGPROB_ROWS = 64


@dataclass(frozen=True, slots=True)
class ScheduledChunk:
    """`num_tokens` tokens of a sequence from its first uncached one; the last `num_proposed` of
    them are proposed ones."""

    sequence: Sequence
    num_tokens: int
    num_proposed: int = 0

    @property
    def is_last(self) -> bool:
        """Whether tokens are sampled from this chunk's last rows."""
        return self.num_tokens - self.num_proposed == self.sequence.num_uncached_tokens

    @property
    def prompt_rows(self) -> range:
        """Rows whose next token is one of the prompt whose probability is wanted."""
        sequence = self.sequence
        missing = sequence.num_missing_prompt_logprobs
        if not missing:
            return range(0)
        # The logits at a position are those of the next one.
        first = sequence.num_prompt_tokens - 1 - missing - sequence.num_cached_tokens
        return range(first, min(first + missing, self.num_tokens))


@dataclass(frozen=True, slots=True)
class Schedule:
    chunks: list[ScheduledChunk] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.chunks)


def note_step(chunks: Collection[ScheduledChunk], start_s: float, now_s: float) -> None:
    """What a step took, for the traces of all that were in it; before its tokens are committed."""
    is_reading = any(chunk.num_tokens - chunk.num_proposed > 1 for chunk in chunks)
    for chunk in chunks:
        sequence = chunk.sequence
        sequence.longest_step_s = max(sequence.longest_step_s, now_s - start_s)
        if is_reading and sequence.num_output_tokens:
            gap_s = now_s - sequence.last_token_s
            sequence.longest_stall_s = max(sequence.longest_stall_s, gap_s)


class Scheduler:
    """Decides; the pool accounts. Touches no device."""

    def __init__(
        self,
        pool: PagePool,
        *,
        max_sequences: int,
        max_step_tokens: int,
        gives_ahead: bool = False,
    ) -> None:
        # Every running sequence must be able to decode in one step.
        assert 0 < max_sequences <= max_step_tokens
        self.pool = pool
        self.max_sequences = max_sequences
        self.max_step_tokens = max_step_tokens
        self.gives_ahead = gives_ahead
        self.waiting: list[Sequence] = []  # both in the order of their rank
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        assert self.pool.pages_for(sequence.max_total_tokens) <= self.pool.num_pages
        insort(self.waiting, sequence, key=RANK)

    def remove(self, sequence: Sequence) -> None:
        """Forget a finished or aborted sequence and free its pages. A fork whose parent is still
        reading is in no queue."""
        for queue in (self.running, self.waiting):
            if sequence in queue:
                queue.remove(sequence)
        self._release_pages(sequence)

    def schedule(self) -> Schedule:
        """Decide the next step. Allocates pages; the caller calls `advance` for each chunk when the
        step has run."""
        schedule = Schedule()
        self._make_way(schedule)
        num_displaced = len(schedule.preempted)
        self._make_room(schedule)
        budget = self.max_step_tokens
        for chunk in self._continue_running():
            schedule.chunks.append(chunk)
            budget -= chunk.num_tokens
        # When pages ran out, a newcomer would take those of the next step.
        if len(schedule.preempted) == num_displaced:
            self._admit(schedule, budget)
        if self.gives_ahead:
            self._give_ahead()
        return schedule

    def advance(self, sequence: Sequence, num_tokens: int) -> None:
        """The step has run: so many more tokens are cached. Pages that are full can be found from
        now on; pages that only proposed tokens needed are given back."""
        page_size = self.pool.page_size_tokens
        first = sequence.num_cached_tokens // page_size
        sequence.num_cached_tokens += num_tokens
        sequence.proposed = []
        last = sequence.num_cached_tokens // page_size
        if last > first and sequence.shares_pages:
            extend_page_hashes(
                sequence.page_hashes, sequence.tokens, page_size, sequence.cache_salt
            )
            first = max(first, sequence.num_shared_tokens // page_size)
            for page, page_hash in zip(
                sequence.pages[first:last], sequence.page_hashes[first:last], strict=True
            ):
                self.pool.name(page, page_hash)
        num_needed = self.pool.pages_for(len(sequence.tokens))
        if num_needed < len(sequence.pages):
            self.pool.free(sequence.pages[num_needed:])
            del sequence.pages[num_needed:]

    def fork(self, parent: Sequence, child: Sequence) -> tuple[tuple[int, int], ...]:
        """Let another output of the same prompt run, with its parent's pages and a copy of the last
        one. Returns the (source, destination) of pages to be copied. Without room it waits."""
        if len(self.running) == self.max_sequences or not self.pool.can_allocate(1):
            self.add(child)
            return ()
        fork = self.pool.fork(parent.pages, parent.num_cached_tokens)
        child.pages = array("i", fork.pages)
        # The parent's next page may be full already, by a token that is its own.
        num_full = parent.num_cached_tokens // self.pool.page_size_tokens
        child.page_hashes = parent.page_hashes[:num_full]
        child.num_cached_tokens = parent.num_cached_tokens
        insort(self.running, child, key=RANK)
        return fork.copies

    def _make_way(self, schedule: Schedule) -> None:
        """Preempt running sequences for the first waiting one, if it is of higher priority."""
        if not self.waiting or not self.running:
            return
        head = self.waiting[0]
        lower = [s for s in self.running if s.priority < head.priority]
        wanted = self.pool.pages_for(len(head.tokens))
        if wanted > self.pool.num_available + sum(len(s.pages) for s in lower):
            return
        for sequence in reversed(lower):
            if len(self.running) < self.max_sequences and self.pool.can_allocate(wanted):
                return
            self._preempt(sequence, schedule)

    def _make_room(self, schedule: Schedule) -> None:
        """Give every running sequence, first rank first, pages for its tokens."""
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            num_tokens = len(sequence.tokens) + self._trim_proposed(sequence)
            wanted = self.pool.pages_for(num_tokens) - len(sequence.pages)
            if wanted <= 0:
                index += 1
            elif self.pool.can_allocate(wanted):
                sequence.pages.extend(self.pool.allocate(wanted))
                index += 1
            elif sequence.proposed:
                sequence.proposed = []  # nobody gives way to a guess
            else:
                self._preempt(self.running[-1], schedule)

    def _give_ahead(self) -> None:
        """Of what is left, give sequences that decode the page of the token after this step's: the
        device can begin with that one before it is scheduled."""
        for sequence in self.running:
            num_tokens = len(sequence.tokens) + 1
            if sequence.num_uncached_tokens != 1 or num_tokens > sequence.max_total_tokens:
                continue
            wanted = self.pool.pages_for(num_tokens) - len(sequence.pages)
            if wanted > 0 and self.pool.can_allocate(wanted):
                sequence.pages.extend(self.pool.allocate(wanted))

    def _trim_proposed(self, sequence: Sequence) -> int:
        """Drop proposed tokens that could not be committed; returns how many are left."""
        if sequence.proposed:
            is_decoding = sequence.num_uncached_tokens == 1 and not sequence.forks
            room = sequence.max_total_tokens - len(sequence.tokens) - 1
            del sequence.proposed[room if is_decoding else 0 :]
        return len(sequence.proposed)

    def _preempt(self, sequence: Sequence, schedule: Schedule) -> None:
        self.running.remove(sequence)
        self._release_pages(sequence)
        sequence.num_preemptions += 1
        insort(self.waiting, sequence, key=RANK)
        schedule.preempted.append(sequence)

    def _continue_running(self) -> Iterator[ScheduledChunk]:
        """A token for each sequence that decodes, and what was proposed to follow it, in at most
        half of the budget; then prompts."""
        decoding = [s for s in self.running if s.num_uncached_tokens == 1]
        budget = self.max_step_tokens - len(decoding)
        for sequence in decoding:
            if sequence.proposed:
                del sequence.proposed[max(0, budget - self.max_step_tokens // 2) :]
            num_proposed = len(sequence.proposed)
            budget -= num_proposed
            yield ScheduledChunk(sequence, 1 + num_proposed, num_proposed)
        if len(decoding) == len(self.running):
            return
        for sequence in self.running:
            if sequence.num_uncached_tokens > 1 and budget:
                chunk = self._read(sequence, budget)
                budget -= chunk.num_tokens
                yield chunk

    def _admit(self, schedule: Schedule, budget: int) -> None:
        while budget and self.waiting and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            if not self._take_pages(sequence):
                return
            del self.waiting[0]
            insort(self.running, sequence, key=RANK)
            schedule.admitted.append(sequence)
            chunk = self._read(sequence, budget)
            schedule.chunks.append(chunk)
            budget -= chunk.num_tokens

    def _take_pages(self, sequence: Sequence) -> bool:
        """Give a sequence pages for all its tokens, those of a known start from the cache."""
        found = self._find_pages(sequence)
        wanted = self.pool.pages_for(len(sequence.tokens)) - len(found)
        if not self.pool.can_allocate(wanted, beside=found):
            return False
        self.pool.share(found)
        sequence.pages = array("i", found + self.pool.allocate(wanted))
        sequence.num_shared_tokens = len(found) * self.pool.page_size_tokens
        # Someone must compute logits: where all is cached, the last token runs again. It reads the
        # page that it shares and does not write it.
        sequence.num_cached_tokens = min(sequence.num_shared_tokens, len(sequence.tokens) - 1)
        return True

    def _find_pages(self, sequence: Sequence) -> list[int]:
        if not sequence.shares_pages or sequence.needs_all_rows:
            return []
        page_size = self.pool.page_size_tokens
        extend_page_hashes(sequence.page_hashes, sequence.tokens, page_size, sequence.cache_salt)
        return self.pool.find(sequence.page_hashes)

    def _read(self, sequence: Sequence, budget: int) -> ScheduledChunk:
        if sequence.num_missing_prompt_logprobs:
            budget = min(budget, MAX_PROMPT_LOGPROB_ROWS)
        return ScheduledChunk(sequence, min(sequence.num_uncached_tokens, budget))

    def _release_pages(self, sequence: Sequence) -> None:
        self.pool.free(sequence.pages)
        sequence.pages = array("i")
        sequence.num_cached_tokens = sequence.num_shared_tokens = 0
        sequence.proposed = []

    def check_integrity(self) -> None:
        """Assert that pages and sequences agree; called when idle and by the tests."""
        everyone = [*self.running, *self.waiting]
        self.pool.check_integrity([sequence.pages for sequence in everyone])
        assert len(self.running) <= self.max_sequences
        for queue in (self.running, self.waiting):
            assert queue == sorted(queue, key=RANK), "out of order"
        for sequence in everyone:
            room = len(sequence.pages) * self.pool.page_size_tokens
            assert sequence.num_cached_tokens <= min(room, len(sequence.tokens))
