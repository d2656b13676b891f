"""Turns running sequences into proposed tokens, and what came of them into better choices."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

from ingot.runtime.scheduler import Schedule
from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.governor import Governor, Outcome
from ingot.runtime.speculation.proposer import Proposer, Wish


def is_reading(sequence: Sequence) -> bool:
    """Whether the next step reads a part of its prompt, to be continued or for its embedding."""
    return sequence.num_uncached_tokens > 1 or sequence.pooling is not None


class Speculator:
    """Asks the proposer for as many guesses as the governor finds worth their time.

    `propose` before a step and `record` after it; `forget` sequences that leave.
    """

    def __init__(self, proposer: Proposer, max_tokens: int, clock: Callable[[], float]) -> None:
        self.proposer = proposer
        self.governor = Governor(max_tokens, proposer.guess_s)
        self._max_tokens = max_tokens
        self._clock = clock
        self._spent_s = 0.0  # by the last `propose`
        self._recording_s = 0.0  # by the last `record` that had something to say
        self._is_preparing = False
        self._accepted: dict[Sequence, int] = {}  # before the step

    def propose(self, running: Seq[Sequence]) -> None:
        """Set each sequence's `proposed`. While a prompt is read there are no guesses: such a step
        is long in any case, and its time says nothing about theirs."""
        self._spent_s = 0.0
        self._is_preparing = False
        self._accepted = {}
        if not running or not self.governor.may_speculate(len(running)):
            return
        if any(map(is_reading, running)):
            return
        start_s = self._clock()
        limits = [self._limit(sequence) for sequence in running]
        if self.proposer.guess_s:
            counts = self.governor.choose(running, limits)
            guesses = self._ask(running, counts)
            self._is_preparing = any(counts) and not any(guesses)
        else:
            guesses = self._ask(running, limits)
            counts = [len(guess) for guess in guesses]
            if any(counts):
                counts = self.governor.choose(running, counts)
        for sequence, guess, count in zip(running, guesses, counts, strict=True):
            if count and guess:
                sequence.proposed = self._check(sequence, guess[:count])
                self._accepted[sequence] = sequence.num_accepted_tokens
        self._spent_s = self._clock() - start_s

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
        if sequence.matcher is None:
            return guess
        return guess[: sequence.matcher.count_allowed(guess)]

    def record(self, schedule: Schedule, step_s: float) -> None:
        """The step is over, `propose` included."""
        for sequence in schedule.preempted:
            self.forget(sequence)
        if not self._spent_s and self.governor.pass_over():
            return
        start_s = self._clock()
        self._learn(schedule, step_s)
        self._recording_s = self._clock() - start_s

    def _learn(self, schedule: Schedule, step_s: float) -> None:
        chunks = schedule.chunks
        num_proposed = sum([chunk.num_proposed for chunk in chunks]) if self._accepted else 0
        if schedule.num_tokens - num_proposed > len(chunks):
            return  # prompts were read: such a step says nothing about the others
        step_s -= self._spent_s
        if self._is_preparing:
            self.governor.begin_trial()
            self.governor.record_plain(len(chunks), step_s, self._spent_s)
            return
        if not self._spent_s:
            self.governor.record_plain(len(chunks), step_s)
            return
        is_free = not self.proposer.guess_s
        think_s = self.governor.smooth(self._spent_s) if is_free else 0.0
        think_s += self._recording_s
        if not num_proposed:
            spent_s = think_s if is_free else self._spent_s + self._recording_s
            self.governor.record_plain(len(chunks), step_s, spent_s)
            return
        outcomes = [
            Outcome(
                chunk.sequence,
                chunk.num_proposed,
                chunk.sequence.num_accepted_tokens - self._accepted[chunk.sequence]
                if chunk.num_proposed
                else 0,
            )
            for chunk in chunks
        ]
        propose_s = 0.0 if is_free else self._spent_s
        self.governor.record(outcomes, step_s, propose_s, think_s)

    def forget(self, sequence: Sequence) -> None:
        self.governor.forget(sequence)
        self.proposer.forget(sequence)
