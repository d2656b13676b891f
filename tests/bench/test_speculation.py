"""What is compared, and how: no engine runs here."""

import pytest

from ingot.bench.speculation import (
    PLAIN,
    TASKS,
    Tally,
    compare,
    make_prompt,
    order_of,
    spread_lengths,
)


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
    plain = Tally([1.0, 4.0, 2.0], ["a", "b"], num_tokens=600, num_steps=300)
    guessed = Tally([0.5, 2.0, 2.0], ["a", "c"], 600, 150, num_proposed=400, num_accepted=300)
    first, second = compare("edit", 2, {PLAIN: plain, "prompt-lookup": guessed})
    assert (first.speedup, first.acceptance, first.same_text) == (1.0, None, True)
    assert (second.speedup, second.acceptance, second.same_text) == (2.0, 0.75, False)
    assert (second.tokens_per_s, second.tokens_per_step) == (100.0, 2.0)


def test_nobody_comes_always_after_the_same_other() -> None:
    names = ["a", "b", "c", "d"]
    orders = [order_of(turn, names) for turn in range(8)]
    assert all(sorted(order) == names for order in orders)
    assert {order[0] for order in orders} == set(names)
    before = {order[order.index("d") - 1] for order in orders if order[0] != "d"}
    assert len(before) > 1
