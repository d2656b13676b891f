"""Turns the waiting and running sequences into the chunks of the next step.

Continuous batching: first come, first served; every running sequence that decodes gets its token
first, then prompts are read in chunks with what is left of the step's token budget, so that a long
prompt delays nobody by more than one step. A sequence gets the pages of all its tokens when it is
admitted, and then one at a time. When they run out, the newest running sequence gives up its pages
and waits to be computed again from its tokens.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ingot.runtime.kv import PagePool
from ingot.runtime.sequence import Sequence


@dataclass(frozen=True, slots=True)
class ScheduledChunk:
    """`num_tokens` tokens of a sequence, from its first uncached one."""

    sequence: Sequence
    num_tokens: int

    @property
    def is_last(self) -> bool:
        """Whether the next token is sampled from this chunk's last row."""
        return self.num_tokens == self.sequence.num_uncached_tokens


@dataclass(frozen=True, slots=True)
class Schedule:
    chunks: list[ScheduledChunk] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return sum(chunk.num_tokens for chunk in self.chunks)


class Scheduler:
    """Decides; the pool accounts. Touches no device."""

    def __init__(self, pool: PagePool, *, max_sequences: int, max_step_tokens: int) -> None:
        # Every running sequence must be able to decode in one step.
        assert 0 < max_sequences <= max_step_tokens
        self.pool = pool
        self.max_sequences = max_sequences
        self.max_step_tokens = max_step_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # oldest first

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        assert self.pool.pages_for(sequence.max_total_tokens) <= self.pool.num_pages
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a finished or aborted sequence and free its pages."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._release_pages(sequence)

    def schedule(self) -> Schedule:
        """Decide the next step. Allocates pages; the caller commits by raising
        `num_cached_tokens` of each chunk's sequence when the step has run."""
        schedule = Schedule()
        self._make_room(schedule)
        decoding = [s for s in self.running if s.num_uncached_tokens == 1]
        reading = [s for s in self.running if s.num_uncached_tokens > 1]
        budget = self.max_step_tokens
        for sequence in decoding + reading:
            budget -= self._add_chunk(schedule, sequence, budget)
        if not schedule.preempted:
            self._admit(schedule, budget)
        return schedule

    def _make_room(self, schedule: Schedule) -> None:
        """Give every running sequence, oldest first, pages for its tokens."""
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            wanted = self.pool.pages_for(len(sequence.tokens)) - len(sequence.pages)
            if self.pool.can_allocate(wanted):
                sequence.pages += self.pool.allocate(wanted)
                index += 1
            else:
                self._preempt(self.running[-1], schedule)

    def _preempt(self, sequence: Sequence, schedule: Schedule) -> None:
        self.running.remove(sequence)
        self._release_pages(sequence)
        sequence.num_preemptions += 1
        self.waiting.appendleft(sequence)
        schedule.preempted.append(sequence)

    def _admit(self, schedule: Schedule, budget: int) -> None:
        while budget and self.waiting and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            wanted = self.pool.pages_for(len(sequence.tokens))
            if not self.pool.can_allocate(wanted):
                return
            self.waiting.popleft()
            self.running.append(sequence)
            sequence.pages = self.pool.allocate(wanted)
            schedule.admitted.append(sequence)
            budget -= self._add_chunk(schedule, sequence, budget)

    def _add_chunk(self, schedule: Schedule, sequence: Sequence, budget: int) -> int:
        num_tokens = min(sequence.num_uncached_tokens, budget)
        if num_tokens:
            schedule.chunks.append(ScheduledChunk(sequence, num_tokens))
        return num_tokens

    def _release_pages(self, sequence: Sequence) -> None:
        self.pool.free(sequence.pages)
        sequence.pages = []
        sequence.num_cached_tokens = 0

    def check_integrity(self) -> None:
        """Assert that pages and sequences agree; called when idle and by the tests."""
        everyone = [*self.running, *self.waiting]
        self.pool.check_integrity([sequence.pages for sequence in everyone])
        assert len(self.running) <= self.max_sequences
        for sequence in everyone:
            room = len(sequence.pages) * self.pool.page_size_tokens
            assert sequence.num_cached_tokens <= min(room, len(sequence.tokens))
