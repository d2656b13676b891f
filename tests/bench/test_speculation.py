"""What is compared, and how: the engine only plays the part."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from ingot.bench.speculation import (
    ALLOWED,
    GUESSED,
    PLAIN,
    PLAIN_AGAIN,
    SOURCES,
    TASKS,
    WAYS,
    Ratio,
    Tally,
    compare,
    make_prompt,
    ratio_of,
    run_case,
    spread_lengths,
)
from ingot.runtime.engine_stats import Counters


@pytest.mark.parametrize("task", TASKS)
def test_prompts_differ(task: str) -> None:
    prompts = [make_prompt(task, index) for index in range(8)]
    assert len(set(prompts)) == 8
    for prompt in prompts:
        first = prompt.splitlines()[0]
        assert prompt.count(first) == (2 if task == "edit" else 1)


@pytest.mark.parametrize(("mean", "count"), [(128, 24), (2, 3)])
def test_lengths_are_spread(mean: int, count: int) -> None:
    lengths = spread_lengths(mean, count)
    assert min(lengths) >= 1 and max(lengths) <= 1.5 * mean
    assert len(set(lengths)) > 1


def test_ways_are_compared_turn_by_turn() -> None:
    tallies = {
        PLAIN: Tally([1.0, 4.0, 2.0], [["a", "b"]], num_tokens=600, num_steps=300),
        PLAIN_AGAIN: Tally([2.0, 4.0, 2.0], [["a", "b"]], num_tokens=600, num_steps=300),
        GUESSED: Tally([0.5, 2.0, 2.0], [["a", "c"]], 600, 150, num_proposed=400, num_accepted=300),
    }
    case = compare("edit", 2, "prompt-lookup", tallies)
    assert (case.speedup.median, case.control.median) == (2.0, 1.0)
    assert (case.acceptance, case.same_text) == (0.75, False)
    assert (case.tokens_per_s, case.plain_tokens_per_s) == (100.0, 100.0)
    assert (case.tokens_per_step, case.plain_tokens_per_step) == (4.0, 2.0)


def test_the_median_lies_between_its_bounds() -> None:
    """Of 100 turns those of rank 40 and 61, within which a median is by 95%."""
    ratio = ratio_of([float(i) for i in range(1, 101)], [1.0] * 100)
    assert ratio.median == 50.5
    assert ratio.interval == (40.0, 61.0) and ratio.quartiles == (26.0, 75.0)
    assert ratio_of([3.0], [2.0]).interval == (1.5, 1.5)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((ALLOWED, 1.1), "not slower"),
        ((0.8, ALLOWED - 0.01), "slower"),
        ((ALLOWED - 0.01, 1.2), "not told"),
    ],
)
def test_a_verdict_needs_both_bounds(interval: tuple[float, float], verdict: str) -> None:
    assert Ratio(1.0, interval, interval).verdict == verdict


@dataclass
class Stats:
    counters: Counters


@dataclass
class Text:
    text: str


@dataclass
class FakeEngine:
    """Remembers in which order it was asked with guesses and without."""

    is_on: bool = True
    runs: list[tuple[bool, list[str]]] = field(default_factory=list)

    def speculate(self, is_on: bool) -> None:
        self.is_on = is_on

    def generate(self, prompts: list[str], params: Any) -> list[Text]:
        self.runs.append((self.is_on, prompts))
        return [Text(prompt[::-1]) for prompt in prompts]

    def stats(self) -> Stats:
        return Stats(Counters())


def test_every_turn_asks_all_ways_alike() -> None:
    engine = FakeEngine()
    tallies = run_case(engine, "edit", 1, 8, turns=6)  # type: ignore[arg-type]
    (is_on, prompts), *runs = engine.runs
    assert not is_on and len(prompts) == len(SOURCES), "warm-up"
    turns = [runs[start : start + len(WAYS)] for start in range(0, len(runs), len(WAYS))]
    assert len(turns) == 6
    for turn in turns:
        assert sum(is_on for is_on, _ in turn) == 1
        assert all(prompts == turn[0][1] for _, prompts in turn)
    places = [[is_on for is_on, _ in turn].index(True) for turn in turns]
    assert sorted(places) == [0, 0, 1, 1, 2, 2]
    assert all(len(tally.seconds) == 6 for tally in tallies.values())
    assert tallies[GUESSED].texts == tallies[PLAIN].texts
