"""With guesses and without: the same outputs, from the same distribution."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingot.runtime.kv import PagePool
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.draft_model import DraftModel
from ingot.runtime.speculation.governor import Governor
from ingot.runtime.speculation.prompt_lookup import PromptLookup
from ingot.runtime.speculation.proposer import Wish
from ingot.runtime.speculation.speculator import Speculator

MakeRig = Callable[..., Any]
MAX_TOKENS = 5
PAGE = 4


class Eager(Governor):
    """Finds every guess worth its time, so that tests see many."""

    def may_speculate(self, batch: int) -> bool:
        return True

    def choose(self, sequences: Any, limits: Any) -> list[int]:
        return [min(limit, self.max_tokens) for limit in limits]


class Blind:
    """Guesses at random: mostly wrong, with this seed sometimes right."""

    guess_s = 0.0

    def __init__(self, vocab_size: int) -> None:
        self._random = np.random.default_rng(3)
        self._vocab_size = vocab_size

    def propose(self, wishes: list[Wish]) -> list[list[int]]:
        counts = [self._random.integers(0, wish.num_tokens + 1) for wish in wishes]
        return [self._random.integers(0, self._vocab_size, n).tolist() for n in counts]

    def forget(self, sequence: Sequence) -> None:
        pass


class Oracle(Blind):
    """Knows the outputs, and errs now and then."""

    def __init__(self, vocab_size: int, outputs: list[list[int]]) -> None:
        super().__init__(vocab_size)
        self._outputs = outputs

    def propose(self, wishes: list[Wish]) -> list[list[int]]:
        guesses = super().propose(wishes)
        for wish, guess in zip(wishes, guesses, strict=True):
            done = wish.sequence.num_output_tokens
            coming = self._outputs[wish.sequence.request_id][done : done + len(guess)]
            if self._random.random() < 0.8:
                guess[: len(coming)] = coming
        return guesses


def speculate(rig: Any, proposer: Any) -> Speculator:
    speculator = Speculator(proposer, MAX_TOKENS, lambda: 0.0)
    speculator.governor = Eager(MAX_TOKENS)
    rig.core._speculator = speculator
    return speculator


def make_proposer(kind: str, rig: Any, toy: ModuleType, expected: list[Any]) -> Any:
    if kind == "prompt-lookup":
        return PromptLookup()
    if kind == "oracle":
        return Oracle(toy.VOCAB, [tokens for tokens, *_ in expected])
    executor = type(rig.executor)(64, PAGE)
    return DraftModel(executor, PagePool(64, PAGE), toy.VOCAB, 200, 32)


PROPOSERS = ["prompt-lookup", "draft", "oracle"]
PROMPTS = [[5] * 9, [7, 8, 7, 8, 7, 8], list(range(1, 14)), [9], [11, 12, 13]]
WISHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 0.7},
    "filtered": {"temperature": 1.0, "top_k": 5, "top_p": 0.9, "min_p": 0.05},
    "penalized": {"temperature": 0.5, "presence_penalty": 1.0, "frequency_penalty": 0.5},
    "repetition": {"repetition_penalty": 1.3, "logit_bias": {3: 2.0}},
}


def run(rig: Any, wishes: dict[str, Any], **more: Any) -> list[tuple[Any, ...]]:
    for seed, prompt in enumerate(PROMPTS):
        options = {"max_tokens": 17 + seed, "ignore_eos": True, "seed": seed, **wishes, **more}
        rig.core.add(prompt, SamplingParams(**options))
    chunks = []
    while rig.core.has_work:
        chunks += rig.core.step()
        rig.core.check_integrity()
    return [
        (
            [t for chunk in mine for t in chunk.token_ids],
            "".join(chunk.text for chunk in mine),
            [round(p.logprob, 4) for chunk in mine for p in chunk.logprobs],
            mine[-1].finish_reason,
        )
        for request_id in range(len(PROMPTS))
        if (mine := [chunk for chunk in chunks if chunk.request_id == request_id])
    ]


@pytest.mark.parametrize("wishes", WISHES.values(), ids=WISHES)
@pytest.mark.parametrize("kind", PROPOSERS)
def test_the_same_outputs(
    make_rig: MakeRig, toy: ModuleType, kind: str, wishes: dict[str, Any]
) -> None:
    expected = run(make_rig(num_pages=64), wishes, logprobs=1)
    rig = make_rig(num_pages=64)
    speculator = speculate(rig, make_proposer(kind, rig, toy, expected))
    assert run(rig, wishes, logprobs=1) == expected
    counters = rig.core.counters
    if kind == "oracle" or not wishes:
        assert 0 < counters.num_accepted_tokens <= counters.num_proposed_tokens
    assert not speculator.governor._each, "ended outputs are remembered"


@pytest.mark.parametrize("kind", PROPOSERS)
def test_with_too_few_pages(make_rig: MakeRig, toy: ModuleType, kind: str) -> None:
    """Guesses take no pages from others, preemption and chunked prefill change nothing."""
    expected = run(make_rig(num_pages=64), {"temperature": 0.7})
    rig = make_rig(num_pages=12, max_step_tokens=8, max_sequences=4)
    proposer = make_proposer(kind, rig, toy, expected)
    speculate(rig, proposer)
    assert run(rig, {"temperature": 0.7}) == expected
    assert rig.core.counters.num_preemptions > 0
    if kind == "draft":
        proposer.check_integrity()
        assert proposer.pool.num_used == 0, "ended outputs hold pages of the draft model"


def test_switched_off_and_on_between_steps(make_rig: MakeRig, toy: ModuleType) -> None:
    prompt, params = [7, 8] * 4, SamplingParams(max_tokens=60, ignore_eos=True)
    [expected] = make_rig(num_pages=64).engine.generate([prompt], params)
    rig = make_rig(num_pages=64)
    proposer = make_proposer("draft", rig, toy, [])
    speculate(rig, proposer)
    counters, proposed = rig.core.counters, []
    tokens = []
    rig.engine.add_request(prompt, params)
    for step in range(60):
        rig.engine.speculate(step // 4 % 2 == 1)
        tokens += [token for chunk in rig.engine.step() for token in chunk.token_ids]
        proposed.append(counters.num_proposed_tokens)
    assert tuple(tokens) == tuple(expected.token_ids)
    assert proposed[3] == 0 < proposed[7] == proposed[11]
    assert proposer.pool.num_used == 0


def test_ends_inside_a_guess(make_rig: MakeRig, toy: ModuleType) -> None:
    """Stop strings, end tokens and lengths cut off what was accepted after them."""
    for more in ({"stop": ["2w"]}, {"ignore_eos": False}, {"stop_token_ids": [3, 30]}):
        expected = run(make_rig(num_pages=64), {"max_tokens": 60}, **more)
        rig = make_rig(num_pages=64)
        speculate(rig, make_proposer("oracle", rig, toy, expected))
        assert run(rig, {"max_tokens": 60}, **more) == expected
    assert rig.core.counters.num_accepted_tokens > 0


def test_several_outputs(make_rig: MakeRig, toy: ModuleType) -> None:
    params = SamplingParams(n=3, temperature=0.9, seed=4, max_tokens=12, ignore_eos=True)

    def outputs(rig: Any) -> list[Any]:
        return [c.token_ids for c in rig.engine.generate([[3, 1, 4, 1, 5]], params)]

    expected = outputs(make_rig())
    rig = make_rig()
    speculate(rig, make_proposer("draft", rig, toy, []))
    assert outputs(rig) == expected and rig.core.counters.num_proposed_tokens > 0


def test_acceptance_is_told(make_rig: MakeRig, toy: ModuleType) -> None:
    rig = make_rig()
    speculate(rig, make_proposer("draft", rig, toy, []))
    params = SamplingParams(max_tokens=13, ignore_eos=True)
    [completion] = rig.engine.generate([[3, 1, 4]], params)
    stats, counters = completion.stats, rig.core.counters
    assert stats.num_accepted_tokens == counters.num_accepted_tokens > 0
    assert stats.num_proposed_tokens == counters.num_proposed_tokens
    assert len(rig.executor.steps) < 13


def test_the_distribution_is_unchanged(make_rig: MakeRig, toy: ModuleType) -> None:
    """Chi-square of the second token, whose place is verified with a guess before it."""
    heat, prompt = 1.5, [3, 1, 4, 3, 1]
    first = toy.toy_logits(prompt) / heat
    shares = np.exp(first - first.max())
    shares /= shares.sum()
    expected = np.zeros(toy.VOCAB)
    for token, share in enumerate(shares):
        second = toy.toy_logits([*prompt, token]) / heat
        weights = np.exp(second - second.max())
        expected += share * weights / weights.sum()
    rig = make_rig(num_pages=512, max_sequences=64)
    speculate(rig, Blind(toy.VOCAB))
    num_draws = 3000
    params = [
        SamplingParams(temperature=heat, max_tokens=3, seed=seed, ignore_eos=True)
        for seed in range(num_draws)
    ]
    completions = rig.engine.generate([prompt] * num_draws, params)
    counts = np.bincount([c.token_ids[1] for c in completions], minlength=toy.VOCAB)
    accepted = rig.core.counters.num_accepted_tokens
    assert accepted > 20, "guesses must come true for this test to say something"
    often = expected * num_draws >= 5
    assert often.sum() > 40
    # The rare ones together are one more kind of outcome.
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum()) * num_draws
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    chi_square = float(((observed - wanted) ** 2 / wanted).sum())
    freedom = len(wanted) - 1
    # The normal approximation's 99.9% point; the seeds are fixed.
    assert chi_square < freedom + 3.1 * np.sqrt(2 * freedom), (chi_square, freedom)
