"""In worlds with known costs: speculation pays where it can and costs little where it can't."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from ingot.runtime.speculation.acceptance import PRIOR, Acceptance
from ingot.runtime.speculation.cost import StepCost
from ingot.runtime.speculation.governor import (
    CHANCES,
    MAX_LOSS,
    MAX_PAUSE,
    PLAIN_RUN,
    Governor,
    Outcome,
    count_guesses,
)

MAX_TOKENS = 8
MAX_SLOWDOWN = 1.05  # what the documents promise


class Talk:
    """A sequence, as far as the governor looks at it: a name."""


@dataclass
class World:
    """Steps take `step_s(number of tokens)`, a guess `propose_s`; guesses come true at `rate`."""

    step_s: Callable[[int], float]
    rate: float
    batch: int = 1
    propose_s: float = 0.0
    noise: float = 0.1
    governor: Governor = field(default_factory=lambda: Governor(MAX_TOKENS))

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(11)
        self.talks = [Talk() for _ in range(self.batch)]

    def run(self, num_tokens: int) -> tuple[float, float]:
        """The time for that many tokens of each sequence, and what plain steps would take."""
        done, spent = 0, 0.0
        while done < num_tokens * self.batch:
            counts = [0] * self.batch
            if self.governor.may_speculate(self.batch):
                counts = self.governor.choose(self.talks, [MAX_TOKENS] * self.batch)  # type: ignore[arg-type]
            step_s = self.step_s(self.batch + sum(counts)) * self.slowness()
            propose_s = self.propose_s * max(counts)
            outcomes = [
                Outcome(talk, count, self.accepted(count))  # type: ignore[arg-type]
                for talk, count in zip(self.talks, counts, strict=True)
            ]
            if any(counts):
                self.governor.record(outcomes, step_s, propose_s)
            else:
                self.governor.record_plain(self.batch, step_s)
            spent += step_s + propose_s
            done += self.batch + sum(outcome.num_accepted for outcome in outcomes)
        return spent, self.step_s(self.batch) * done / self.batch

    def accepted(self, count: int) -> int:
        refused = np.flatnonzero(self.random.random(count) >= self.rate)
        return int(refused[0]) if refused.size else count

    def slowness(self) -> float:
        return 1 + self.noise * float(self.random.exponential())


def flat(num_tokens: int) -> float:
    return 1.0 + 0.02 * num_tokens


def steep(num_tokens: int) -> float:
    return float(num_tokens)


def cliff(num_tokens: int) -> float:
    return 1.0 if num_tokens == 1 else 2.5 + 0.1 * num_tokens


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.9])
@pytest.mark.parametrize("step_s", [flat, steep, cliff])
@pytest.mark.parametrize("propose_s", [0.0, 0.5])
def test_never_much_slower(
    step_s: Callable[[int], float], rate: float, batch: int, propose_s: float
) -> None:
    spent, plain = World(step_s, rate, batch, propose_s, noise=0.0).run(1000)
    assert spent <= MAX_SLOWDOWN * plain


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_short_outputs_are_not_slowed_either(rate: float) -> None:
    governor = Governor(MAX_TOKENS)
    total = plain = 0.0
    for _ in range(10):
        world = World(cliff, rate, noise=0.0, governor=governor)
        spent, without = world.run(60)
        total, plain = total + spent, plain + without
    assert total <= MAX_SLOWDOWN * plain


@pytest.mark.parametrize(
    ("step_s", "rate", "batch", "propose_s", "speedup"),
    [
        (flat, 0.9, 1, 0.0, 4.0),
        (flat, 0.7, 8, 0.0, 1.4),
        (flat, 0.9, 1, 0.2, 2.0),
        (cliff, 0.95, 1, 0.0, 1.5),
    ],
)
def test_pays_where_it_can(
    step_s: Callable[[int], float], rate: float, batch: int, propose_s: float, speedup: float
) -> None:
    spent, plain = World(step_s, rate, batch, propose_s, noise=0.0).run(600)
    assert plain / spent > speedup


def test_a_busy_machine_does_not_turn_it_off() -> None:
    spent, plain = World(flat, 0.9, noise=0.5).run(600)
    assert plain * 1.5 / spent > 3.0


def test_tries_again_when_the_text_changes() -> None:
    world = World(flat, 0.0, noise=0.0)
    world.run(500)
    world.rate = 0.95
    world.run(300)
    spent, plain = world.run(300)
    assert plain / spent > 3.0


def test_good_sequences_get_more_than_bad_ones() -> None:
    governor = Governor(MAX_TOKENS)
    good, bad = Talk(), Talk()
    for _ in range(PLAIN_RUN):
        governor.record_plain(2, flat(2))
    governor.choose([good, bad], [MAX_TOKENS] * 2)  # type: ignore[list-item]
    for _ in range(20):
        outcomes = [Outcome(good, 4, 4), Outcome(bad, 4, 0)]  # type: ignore[arg-type]
        governor.record(outcomes, flat(10))
    counts = governor.choose([good, bad], [MAX_TOKENS, MAX_TOKENS])  # type: ignore[list-item]
    assert counts[0] == MAX_TOKENS and counts[1] <= 1
    assert governor.choose([good, bad], [0, 0]) == [0, 0]  # type: ignore[list-item]


def test_acceptance_goes_back_to_what_is_usual() -> None:
    acceptance = Acceptance(fade=0.9)
    assert acceptance.rate(PRIOR, 0) == PRIOR
    for step in range(30):
        acceptance.record(4, 0, step)
    assert acceptance.rate(PRIOR, 30) < 0.2
    assert acceptance.rate(PRIOR, 3000) == pytest.approx(PRIOR, abs=1e-3)


def test_guesses_after_a_refused_one_say_nothing() -> None:
    acceptance = Acceptance(fade=1.0)
    acceptance.record(8, 3, 0)
    assert (acceptance.num_tried, acceptance.num_accepted) == (4, 3)


def test_guesses_are_counted_by_their_chance() -> None:
    counts, tokens = count_guesses(80, 5)
    by_chance = dict(zip(CHANCES, zip(counts, tokens, strict=True), strict=True))
    assert by_chance[0.9] == (0, 0)
    assert by_chance[0.6] == (2, pytest.approx(0.8 + 0.64))
    assert by_chance[0.05] == (5, pytest.approx(sum(0.8**i for i in range(1, 6))))
    assert count_guesses(100, 3)[0] == (3,) * len(CHANCES)
    assert count_guesses(0, 3)[0] == (0,) * len(CHANCES)


def test_cost_between_and_beyond() -> None:
    cost = StepCost()
    cost.record(2, 1.0)
    assert cost.predict(1) == 1.0 and 1.0 < cost.predict(6) < 1.5
    cost.record(6, 3.0)
    assert cost.predict(4) == pytest.approx(2.0)
    for _ in range(50):
        cost.record(6, 2.0)
    assert cost.predict(6) == pytest.approx(2.0, rel=0.01)
    cost.record(6, 1000.0)
    assert cost.predict(6) < 3.0, "one outlier"


def test_a_slower_machine_is_slower_for_all_sizes() -> None:
    cost = StepCost()
    for num_tokens in (1, 2, 4):
        cost.record(num_tokens, float(num_tokens))
    for _ in range(60):
        cost.record(1, 3.0)
    assert cost.predict(1) == pytest.approx(3.0, rel=0.01)
    assert cost.predict(4) > 5.0


def test_what_is_not_measured_again_is_doubted() -> None:
    cost = StepCost()
    cost.record(1, 1.0)
    cost.record(4, 9.0)
    for _ in range(3000):
        cost.record(1, 1.0)
        cost.count_plain()
    assert cost.predict(4) == pytest.approx(9.0)
    assert 1.0 < cost.predict(4, plain=1) < 4.0


def rest_of(governor: Governor, batch: int) -> int:
    """How many steps pass before guesses may come again."""
    steps = 0
    while not governor.may_speculate(batch):
        steps += 1
        if not governor.pass_over():
            governor.record_plain(batch, flat(batch))
    return steps


def test_a_loss_is_paid_by_rest() -> None:
    governor = Governor(MAX_TOKENS)
    talk = Talk()
    assert rest_of(governor, 1) == PLAIN_RUN
    governor.choose([talk], [2])  # type: ignore[list-item]
    governor.record([Outcome(talk, 2, 0)], 2 * flat(1))  # type: ignore[arg-type]
    assert rest_of(governor, 1) > 1 / MAX_LOSS


@pytest.mark.parametrize("loss", [3, 30, 300])
def test_a_great_loss_is_paid_too(loss: int) -> None:
    """As when a draft model reads the long prompts of a whole batch, and then isn't worth it."""
    governor = Governor(MAX_TOKENS, guess_s=0.01)
    rest_of(governor, 1)
    governor.record_plain(1, flat(1), spent_s=loss * flat(1))
    assert rest_of(governor, 1) == pytest.approx(loss / MAX_LOSS, rel=0.05)


def test_a_large_batch_rests_by_itself() -> None:
    """What it lost keeps no small one from guessing, and what a small one won pays none of it."""
    governor = Governor(MAX_TOKENS)
    talks = [Talk() for _ in range(8)]
    for batch in (1, 8):
        rest_of(governor, batch)
    for _ in range(40):
        governor.record([Outcome(talks[0], 4, 4)], flat(5))  # type: ignore[arg-type]
    governor.record([Outcome(talk, 4, 0) for talk in talks], steep(40))  # type: ignore[arg-type]
    assert governor.may_speculate(1)
    assert rest_of(governor, 8) > 1 / MAX_LOSS
    assert rest_of(governor, 1) <= PLAIN_RUN, "a plain step is measured, and on it goes"


def test_little_is_recorded_while_it_rests() -> None:
    governor = Governor(MAX_TOKENS)
    governor.record_plain(1, flat(1), spent_s=flat(1))
    passed = 0
    while governor.pass_over():
        passed += 1
    assert passed > 50
    assert not governor.may_speculate(1), "the last steps of a rest are measured"
    assert 0 < rest_of(governor, 1) <= PLAIN_RUN


def test_a_draft_that_is_not_worth_asking_is_thought_of_ever_more_rarely() -> None:
    governor = Governor(MAX_TOKENS, guess_s=10.0)
    rest_of(governor, 1)
    rests = []
    for _ in range(6):
        assert governor.choose([Talk()], [MAX_TOKENS]) == [0]  # type: ignore[list-item]
        governor.record_plain(1, flat(1), spent_s=1e-6)
        rests.append(rest_of(governor, 1))
    assert rests == sorted(rests)
    assert rests[0] == PLAIN_RUN and rests[-1] == MAX_PAUSE


def test_the_first_plain_step_of_a_size_may_be_a_hiccup() -> None:
    cost = StepCost()
    cost.record(1, 1.0)
    cost.record(2, 1000.0)
    assert cost.predict(2) < 20
