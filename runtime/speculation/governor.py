"""Turns acceptance and measured cost into how many guesses each sequence gets in a step.

A guess is worth its time while the tokens that it is likely to bring, over the time of the step,
raise the rate of the whole batch. An account bounds what a wrong prediction costs: every step pays
a small share of its time in, what speculation loses against plain steps is taken out, what it wins
is put in. Overdrawn, speculation rests for as many steps as pay the debt; nothing is computed in
them but the cost of the last few. Each size of batch has an account of its own, so that small ones
win for themselves and not for the losses of large ones. What was learned fades, so it is tried
again later.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil

from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.acceptance import IDLE_FADE, PRIOR, Acceptance
from ingot.runtime.speculation.cost import StepCost

MIN_GAIN = 1.1  # of the batch's rate, or a plain step is taken
# Measured among steps with guesses, plain steps find the caches full of other things: by
# themselves they are so much quicker.
ALONE = 0.92
MAX_LOSS = 0.01  # of the time that steps take may be lost, by thinking of guesses or by trying them
MAX_SAVINGS = 16  # plain steps: more is not kept for worse times
MAX_REST = 600  # steps: then plain ones are measured, and it rests on if more was lost
MAX_PAUSE = 128  # steps after fruitless thoughts of guesses that cost time; each doubles it
TRIAL_STEPS = 8  # that follow once a draft model has read what it missed, for it was paid for
PLAIN_EVERY = 150  # steps: how often the cost of a plain step is measured afresh
PLAIN_RUN = 8  # steps: the first after others find the caches cold
MEASURED = 4  # of them, the last
BIAS_WEIGHT = 0.1  # of a new measurement
FIRST_REACH = 2  # guesses a sequence, while no step with guesses was measured
REACH = 4  # times the guesses of the largest measured step: beyond lies the unknown
SEQUENCE_FADE = 0.9
ENGINE_FADE = 0.98
PROPOSE_WEIGHT = 0.2  # of a new measurement
HICCUP = 4.0  # times what guesses usually take is not theirs
# Guesses are compared by their probability to be accepted, in these steps.
CHANCES = (0.9, 0.75, 0.6, 0.45, 0.3, 0.15, 0.05)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the guesses for one sequence."""

    sequence: Sequence
    num_proposed: int
    num_accepted: int


@dataclass(slots=True)
class Account:
    """Of batches of about one size."""

    savings_s: float = 0.0
    rest: int = 0  # steps without guesses that are to come


@lru_cache(maxsize=4096)
def count_guesses(percent: int, limit: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """How many guesses of a sequence reach each of CHANCES, and the tokens that they bring, when
    `percent` of guesses are accepted."""
    rate = percent / 100
    counts, tokens = [], []
    count, chance, total = 0, rate, 0.0
    for floor in CHANCES:
        while count < limit and chance >= floor:
            count += 1
            total += chance
            chance *= rate
        counts.append(count)
        tokens.append(total)
    return tuple(counts), tuple(tokens)


@dataclass(slots=True)
class Governor:
    """`max_tokens` guesses for one sequence and step at most."""

    max_tokens: int
    guess_s: float = 0.0  # the least that one guess takes
    cost: StepCost = field(default_factory=StepCost)
    _overall: Acceptance = field(default_factory=lambda: Acceptance(ENGINE_FADE))
    _each: dict[Sequence, Acceptance] = field(default_factory=dict)
    _propose_s: float = field(init=False)  # for one guess of each sequence
    _think_s: float = 0.0
    _bias: float = 1.0  # what steps with guesses took, over what was predicted
    _accounts: dict[int, Account] = field(default_factory=dict)
    _account: Account = field(default_factory=Account)  # of the step that runs
    _num_trials: int = 0  # steps of a trial that are left
    _step: int = 0
    _last_plain: dict[int, int] = field(default_factory=dict)  # by the number of sequences
    _num_plain: int = 0  # steps without guesses in a row
    _pause: int = PLAIN_RUN  # steps after the next fruitless thought

    def __post_init__(self) -> None:
        self._propose_s = self.guess_s

    def may_speculate(self, batch: int) -> bool:
        """Whether a step of that many sequences may carry guesses. Nearly free to ask."""
        account = self._use_account(batch)
        if account.rest:
            return False
        if self._step - self._last_plain.get(batch, -PLAIN_EVERY) >= PLAIN_EVERY:
            account.rest = max(1, PLAIN_RUN - self._num_plain)
        return not account.rest

    def _use_account(self, batch: int) -> Account:
        size = batch.bit_length()  # 1, 2 to 3, 4 to 7, 8 to 15, ...
        account = self._accounts.get(size)
        if account is None:
            account = self._accounts[size] = Account()
        self._account = account
        return account

    def pass_over(self) -> bool:
        """A step without guesses is over. Whether that is all there is to say of it."""
        if self._account.rest <= MEASURED:
            return False
        self._account.rest -= 1
        self._step += 1
        self._num_plain += 1
        self.cost.count_plain()
        return True

    def choose(self, sequences: Seq[Sequence], limits: Seq[int]) -> list[int]:
        """How many guesses each sequence gets in the coming step, of at most `limits`."""
        batch = len(sequences)
        prior = self._overall.rate(PRIOR, self._step)
        options = []
        for sequence, limit in zip(sequences, limits, strict=True):
            known = self._each.get(sequence)
            if known is None:
                known = self._each[sequence] = Acceptance(SEQUENCE_FADE, last_step=self._step)
            percent = round(100 * known.rate(prior, self._step))
            options.append(count_guesses(percent, min(limit, self.max_tokens)))
        reach = max(FIRST_REACH * batch, REACH * (self.cost.largest - batch))
        best_rate = MIN_GAIN * batch / (ALONE * self.cost.predict(batch))
        best: tuple[int, ...] = (0,) * batch
        last = 0
        counts_by_chance = zip(*(counts for counts, _ in options), strict=True)
        tokens_by_chance = map(sum, zip(*(tokens for _, tokens in options), strict=True))
        for counts, tokens in zip(counts_by_chance, tokens_by_chance, strict=True):
            num_guesses = sum(counts)
            if num_guesses > reach:
                break
            if num_guesses == last:
                continue
            last = num_guesses
            seconds = self._bias * self.cost.predict(batch + num_guesses, batch)
            seconds += max(counts) * self._propose_s
            rate = (batch + tokens) / seconds
            if rate > best_rate:
                best, best_rate = counts, rate
        return list(best)

    def record_plain(self, batch: int, step_s: float, spent_s: float = 0.0) -> None:
        """A step of `batch` tokens without guesses is over. `spent_s` went into thoughts."""
        self._step += 1
        self._num_plain += 1
        account = self._use_account(batch)
        account.rest = max(0, account.rest - 1)
        if self._num_plain > PLAIN_RUN - MEASURED or not self.cost.knows(batch):
            self.cost.record(batch, step_s)
        if self._num_plain >= PLAIN_RUN:
            self._last_plain[batch] = self._step
        self.cost.count_plain()
        self._forget_pace(1)
        self._settle(MAX_LOSS * step_s - spent_s, step_s)
        if spent_s and self.guess_s and not self._num_trials:
            # Nothing was asked, so nothing new is known when it is thought of again.
            account.rest = max(account.rest, self._pause)
            self._pause = min(2 * self._pause, MAX_PAUSE)

    def record(
        self, outcomes: Seq[Outcome], step_s: float, propose_s: float = 0.0, think_s: float = 0.0
    ) -> None:
        """A step of nothing but single tokens and guesses is over. `propose_s` went into guesses
        one after the other, `think_s` into all that was free for each of them."""
        self._step += 1
        self._num_plain = 0
        self._pause = PLAIN_RUN
        batch = len(outcomes)
        self._use_account(batch)
        num_proposed = sum(outcome.num_proposed for outcome in outcomes)
        if self.cost.knows(batch + num_proposed):
            ratio = step_s / self.cost.predict(batch + num_proposed)
            self._bias += BIAS_WEIGHT * (min(max(ratio, 0.5), 2.0) - self._bias)
        self.cost.record(batch + num_proposed, step_s, is_plain=False)
        depth = max(outcome.num_proposed for outcome in outcomes)
        if self._propose_s:
            propose_s = min(propose_s, HICCUP * depth * self._propose_s)
        self._propose_s += PROPOSE_WEIGHT * (propose_s / depth - self._propose_s)
        plain_s = self.cost.predict(batch)
        # No token costs more than one by itself: what is beyond is a hiccup, and nobody's loss.
        actual_s = min(step_s, plain_s * (batch + num_proposed) / batch) + propose_s + think_s
        num_tokens = batch + sum(outcome.num_accepted for outcome in outcomes)
        self._settle(ALONE * plain_s * num_tokens / batch - (1 - MAX_LOSS) * actual_s, plain_s)
        for outcome in outcomes:
            self._learn(outcome)

    def smooth(self, think_s: float) -> float:
        """What thoughts usually take: reading a prompt for the first time is no part of that."""
        if self._think_s:
            think_s = min(think_s, HICCUP * self._think_s)
        self._think_s += PROPOSE_WEIGHT * (think_s - self._think_s)
        return think_s

    def begin_trial(self) -> None:
        """Something was paid for that only guesses pay back."""
        self._num_trials = TRIAL_STEPS

    def _settle(self, won_s: float, plain_s: float) -> None:
        account = self._account
        account.savings_s = min(account.savings_s + won_s, MAX_SAVINGS * plain_s)
        if self._num_trials:
            self._num_trials -= 1
        elif account.savings_s < 0:
            pay_s = MAX_LOSS * plain_s
            account.rest = min(max(PLAIN_RUN, ceil(-account.savings_s / pay_s)), MAX_REST)
            account.savings_s = min(0.0, account.savings_s + account.rest * pay_s)
            self._forget_pace(account.rest)

    def _forget_pace(self, num_steps: int) -> None:
        """Guesses that took long are believed to take less after so many steps without any."""
        if self._propose_s > self.guess_s:
            self._propose_s = max(self.guess_s, self._propose_s * IDLE_FADE**num_steps)

    def _learn(self, outcome: Outcome) -> None:
        if outcome.num_proposed:
            counts = outcome.num_proposed, outcome.num_accepted, self._step
            self._overall.record(*counts)
            known = self._each.get(outcome.sequence)  # not there once the sequence has ended
            if known is not None:
                known.record(*counts)

    def forget(self, sequence: Sequence) -> None:
        self._each.pop(sequence, None)
