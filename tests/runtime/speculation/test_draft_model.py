"""The draft model's guesses are its own greedy text, whatever was accepted before."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingot.runtime.kv import PagePool
from ingot.runtime.speculation.draft_model import DraftModel
from ingot.runtime.speculation.proposer import Wish

PAGE = 4


class Talk:
    """What the proposer looks at of a sequence."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens


@pytest.fixture
def make_draft(make_rig: Callable[..., Any], toy: ModuleType) -> Iterator[Callable[..., Any]]:
    made: list[DraftModel] = []

    def make(num_pages: int = 64, **limits: int) -> DraftModel:
        executor = type(make_rig().executor)(num_pages, PAGE)
        options = {"vocab_size": toy.VOCAB, "max_context_tokens": 200, "max_step_tokens": 32}
        made.append(DraftModel(executor, PagePool(num_pages, PAGE), **{**options, **limits}))
        return made[-1]

    yield make
    for draft in made:
        draft.check_integrity()


def guess(draft: DraftModel, talks: list[Talk], counts: list[int]) -> list[list[int]]:
    wishes = [Wish(*wish) for wish in zip(talks, counts, strict=True)]  # type: ignore[arg-type]
    guesses = draft.propose(wishes)
    draft.check_integrity()
    return guesses


def greedy(toy: ModuleType, tokens: list[int], count: int) -> list[int]:
    answer = list(tokens)
    for _ in range(count):
        answer.append(int(toy.toy_logits(answer).argmax()))
    return answer[len(tokens) :]


def test_guesses_are_greedy(make_draft: Callable[..., Any], toy: ModuleType) -> None:
    draft = make_draft()
    talks = [Talk([3, 1, 4]), Talk([5] * 9), Talk([7])]
    counts = [4, 0, 6]
    expected = [greedy(toy, t.tokens, n) for t, n in zip(talks, counts, strict=True)]
    assert guess(draft, talks, counts) == expected
    assert len(draft.executor.steps) == 6, "one step for each place of the longest"


def test_follows_what_was_accepted(make_draft: Callable[..., Any], toy: ModuleType) -> None:
    """The fake device complains when a slot that was never written is read."""
    draft = make_draft()
    talk = Talk([3, 1, 4])
    random = np.random.default_rng(5)
    for _ in range(12):
        [proposed] = guess(draft, [talk], [5])
        assert proposed == greedy(toy, talk.tokens, 5)
        talk.tokens += [*proposed[: random.integers(0, 6)], int(random.integers(1, 64))]
    # What was guessed right is not computed again.
    assert max(len(inputs.token_ids) for inputs in draft.executor.steps[1:]) <= 2


def test_catches_up_after_a_pause(make_draft: Callable[..., Any], toy: ModuleType) -> None:
    draft = make_draft(max_step_tokens=16)
    talk = Talk([3, 1, 4])
    guess(draft, [talk], [2])
    talk.tokens += [int(t) for t in np.random.default_rng(2).integers(1, 64, 40)]
    assert guess(draft, [talk], [2]) == [[]], "more than a step's tokens are to be read"
    assert guess(draft, [talk], [2]) == [[]]
    assert guess(draft, [talk], [2]) == [greedy(toy, talk.tokens, 2)]


def test_no_room(make_draft: Callable[..., Any], toy: ModuleType) -> None:
    draft = make_draft(num_pages=4, max_context_tokens=20)
    talks = [Talk([1] * 8), Talk([2] * 8)]
    assert [len(g) for g in guess(draft, talks, [3, 3])] == [3, 0], "pages for one of them"
    draft.forget(talks[0])  # type: ignore[arg-type]
    draft.forget(talks[0])  # type: ignore[arg-type]
    assert [len(g) for g in guess(draft, talks[1:], [3])] == [3]
    assert guess(draft, [Talk([1] * 18)], [3]) == [[]], "beyond its context"


def test_tokens_of_its_own_are_not_proposed(
    make_draft: Callable[..., Any], toy: ModuleType
) -> None:
    expected = greedy(toy, [3, 1, 4], 9)
    draft = make_draft(vocab_size=max(expected))
    [proposed] = guess(draft, [Talk([3, 1, 4])], [9])
    assert proposed == expected[: expected.index(max(expected))]


@pytest.mark.parametrize(("slow_s", "num_steps"), [(0.012, 20), (1.0, 5)])
def test_a_busy_start_is_measured_longer(
    make_draft: Callable[..., Any], slow_s: float, num_steps: int
) -> None:
    """The least of several guesses counts: of more, where they are short."""
    draft = make_draft()
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        # each guess looks twice; the first 10 take long
        now_s += slow_s if len(draft.executor.steps) <= 10 else 0.001
        return now_s

    draft.time_guess(clock)
    assert draft.guess_s == pytest.approx(0.001 if num_steps > 10 else slow_s)
    assert len(draft.executor.steps) >= num_steps
    assert draft.pool.num_used == 0
