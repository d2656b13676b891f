"""Turns running sequences into proposed tokens, and what came of them into better choices."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

from ingot.runtime.scheduler import Schedule, ScheduledChunk
from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.governor import Governor, Outcome
from ingot.runtime.speculation.proposer import Proposer, Wish


class Speculator:
    """Asks the proposer for as many guesses as the governor finds worth their time.

    `propose` before a step and `record` after it; `forget` sequences that leave.
    """

    def __init__(self, proposer: Proposer, max_tokens: int, clock: Callable[[], float]) -> None:
        self.proposer = proposer
        self.governor = Governor(max_tokens, proposer.guess_s)
        self._max_tokens = max_tokens
        self._clock = clock
        self._propose_s = 0.0
        self._wanted = False
        self._accepted: dict[Sequence, int] = {}  # before the step

    def propose(self, running: Seq[Sequence]) -> None:
        """Set each sequence's `proposed`. While a prompt is read there are no guesses: such a step
        is long in any case, and its time says nothing about theirs."""
        self._propose_s = 0.0
        self._wanted = False
        self._accepted = {}
        if not running or any(sequence.num_uncached_tokens > 1 for sequence in running):
            return
        if not self.governor.may_speculate(len(running)):
            return
        self._accepted = {sequence: sequence.num_accepted_tokens for sequence in running}
        limits = [self._limit(sequence) for sequence in running]
        if self.proposer.guess_s:
            start_s = self._clock()
            counts = self.governor.choose(running, limits)
            guesses = self._ask(running, counts)
            self._wanted = any(counts)
            self._propose_s = self._clock() - start_s
        else:
            guesses = self._ask(running, limits)
            counts = self.governor.choose(running, [len(guess) for guess in guesses])
        for sequence, guess, count in zip(running, guesses, counts, strict=True):
            sequence.proposed = self._check(sequence, guess[:count])

    def _limit(self, sequence: Sequence) -> int:
        """The last token of an output is never a guess: it follows from the ones before it."""
        return min(self._max_tokens, sequence.max_total_tokens - len(sequence.tokens) - 1)

    def _ask(self, running: Seq[Sequence], counts: Seq[int]) -> list[list[int]]:
        if not any(counts):
            return [[] for _ in running]
        wishes = [Wish(*wish) for wish in zip(running, counts, strict=True)]
        guesses = self.proposer.propose(wishes)
        return [self._forced(wish) or guess for wish, guess in zip(wishes, guesses, strict=True)]

    @staticmethod
    def _forced(wish: Wish) -> list[int]:
        """What a constraint leaves no choice about is the best guess."""
        matcher = wish.sequence.matcher
        return [] if matcher is None else matcher.forced_tokens()[: wish.num_tokens]

    @staticmethod
    def _check(sequence: Sequence, guess: list[int]) -> list[int]:
        """The guess up to the first token that the sequence's constraint refuses."""
        if sequence.matcher is None or not guess:
            return guess
        return guess[: sequence.matcher.count_allowed(guess)]

    def record(self, schedule: Schedule, step_s: float) -> None:
        """The step is over, `propose` included."""
        for sequence in schedule.preempted:
            self.forget(sequence)
        chunks = schedule.chunks
        if any(chunk.num_tokens - chunk.num_proposed > 1 for chunk in chunks):
            return  # prompts were read: such a step says nothing about the others
        outcomes = [
            Outcome(
                chunk.sequence,
                chunk.num_proposed,
                self._count_accepted(chunk),
            )
            for chunk in chunks
        ]
        self.governor.record(
            outcomes,
            step_s - self._propose_s,
            self._propose_s,
            was_catching_up=self._wanted and not any(outcome.num_proposed for outcome in outcomes),
        )

    def _count_accepted(self, chunk: ScheduledChunk) -> int:
        if not chunk.num_proposed:
            return 0
        return chunk.sequence.num_accepted_tokens - self._accepted[chunk.sequence]

    def forget(self, sequence: Sequence) -> None:
        self.governor.forget(sequence)
        self.proposer.forget(sequence)
