"""Turns acceptance and measured cost into how many guesses each sequence gets in a step.

A guess is worth its time while the tokens that it is likely to bring, over the time of the step,
raise the rate of the whole batch. An account bounds what a wrong prediction costs: every step pays
a small share of its time in, what speculation loses against plain steps is taken out, what it wins
is put in. Overdrawn, speculation pauses. What was learned fades, so it is tried again later.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.acceptance import Acceptance
from ingot.runtime.speculation.cost import StepCost

MIN_GAIN = 1.03  # of the batch's rate, or a plain step is taken
MAX_LOSS = 0.02  # of the time that steps take may be lost by trying
MAX_SAVINGS = 64  # plain steps: more is not kept for worse times
TRIAL_STEPS = 8  # that follow once a draft model has read what it missed, for it was paid for
PLAIN_EVERY = 40  # steps: how often the cost of a plain step is measured afresh
FIRST_REACH = 2  # guesses a sequence, while no step with guesses was measured
REACH = 4  # times the guesses of the largest measured step: beyond lies the unknown
MIN_CHANCE = 0.05  # of acceptance, below which a guess is not thought about
SEQUENCE_FADE = 0.9
ENGINE_FADE = 0.98
IDLE_FADE = 0.99  # of what is known, at each step without guesses
PROPOSE_WEIGHT = 0.2  # of a new measurement
HICCUP = 4.0  # times what guesses usually take is not theirs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the guesses for one sequence."""

    sequence: Sequence
    num_proposed: int
    num_accepted: int


@dataclass(slots=True)
class Governor:
    """`max_tokens` guesses for one sequence and step at most."""

    max_tokens: int
    guess_s: float = 0.0  # the least that one guess takes
    cost: StepCost = field(default_factory=StepCost)
    _overall: Acceptance = field(default_factory=lambda: Acceptance(ENGINE_FADE))
    _each: dict[Sequence, Acceptance] = field(default_factory=dict)
    _propose_s: float = field(init=False)  # for one guess of each sequence
    _account_s: float = 0.0
    _num_trials: int = 0  # steps of a trial that are left
    _num_steps: int = 0
    _last_plain: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._propose_s = self.guess_s

    def may_speculate(self, batch: int) -> bool:
        """Whether a step of that many sequences may carry guesses. Free to ask."""
        is_measured = self._num_steps - self._last_plain.get(batch, -PLAIN_EVERY) < PLAIN_EVERY
        return is_measured and (self._account_s >= 0 or self._num_trials > 0)

    def choose(self, sequences: Seq[Sequence], limits: Seq[int]) -> list[int]:
        """How many guesses each sequence gets in the coming step, of at most `limits`."""
        batch = len(sequences)
        # A later guess of a sequence brings less than an earlier one: best first keeps their order.
        reach = max(FIRST_REACH * batch, REACH * (self.cost.largest - batch))
        guesses = sorted(self._guesses(sequences, limits), reverse=True)[:reach]
        tokens, depth = float(batch), 0
        plain_rate = best_rate = batch / self.cost.predict(batch)
        best = 0
        for count, (gain, minus_depth, _) in enumerate(guesses, start=1):
            tokens += gain
            depth = max(depth, -minus_depth)
            rate = tokens / (self.cost.predict(batch + count) + depth * self._propose_s)
            if rate > best_rate:
                best, best_rate = count, rate
        counts = [0] * batch
        if best_rate >= MIN_GAIN * plain_rate:
            for _, _, owner in guesses[:best]:
                counts[owner] += 1
        return counts

    def _guesses(self, sequences: Seq[Sequence], limits: Seq[int]) -> list[tuple[float, int, int]]:
        """The probability that each possible guess is accepted, minus its depth, and its owner."""
        prior = self._overall.rate()
        guesses = []
        for owner, (sequence, limit) in enumerate(zip(sequences, limits, strict=True)):
            rate = self._each.setdefault(sequence, Acceptance(SEQUENCE_FADE)).rate(prior)
            gain = 1.0
            for depth in range(1, min(limit, self.max_tokens) + 1):
                gain *= rate
                if gain < MIN_CHANCE:
                    break
                guesses.append((gain, -depth, owner))
        return guesses

    def record(
        self,
        outcomes: Seq[Outcome],
        step_s: float,
        propose_s: float = 0.0,
        *,
        was_catching_up: bool = False,
    ) -> None:
        """A step of nothing but single tokens and guesses is over. `was_catching_up` says that the
        time for guesses went into what they need."""
        batch = len(outcomes)
        num_proposed = sum(outcome.num_proposed for outcome in outcomes)
        self._num_steps += 1
        self.cost.record(batch + num_proposed, step_s, is_plain=not num_proposed)
        plain_s = self.cost.predict(batch)
        # No token costs more than one by itself: what is beyond is a hiccup, and nobody's loss.
        actual_s = min(step_s, plain_s * (batch + num_proposed) / batch)
        if num_proposed:
            depth = max(outcome.num_proposed for outcome in outcomes)
            if self._propose_s:
                propose_s = min(propose_s, HICCUP * depth * self._propose_s)
            self._propose_s += PROPOSE_WEIGHT * (propose_s / depth - self._propose_s)
            num_tokens = batch + sum(outcome.num_accepted for outcome in outcomes)
            self._account_s += plain_s * num_tokens / batch - actual_s
        else:
            self._last_plain[batch] = self._num_steps
            self.cost.forget(batch)
            self._overall.fade_by(IDLE_FADE)
            self._propose_s = max(self.guess_s, self._propose_s * IDLE_FADE)
        self._account_s += MAX_LOSS * (actual_s + propose_s) - propose_s
        self._num_trials = TRIAL_STEPS if was_catching_up else max(0, self._num_trials - 1)
        self._account_s = min(self._account_s, MAX_SAVINGS * plain_s)
        for outcome in outcomes:
            self._learn(outcome)

    def _learn(self, outcome: Outcome) -> None:
        known = self._each.get(outcome.sequence)  # not there once the sequence has ended
        if outcome.num_proposed:
            self._overall.record(outcome.num_proposed, outcome.num_accepted)
            if known is not None:
                known.record(outcome.num_proposed, outcome.num_accepted)
        elif known is not None:
            known.fade_by(IDLE_FADE)

    def forget(self, sequence: Sequence) -> None:
        self._each.pop(sequence, None)
