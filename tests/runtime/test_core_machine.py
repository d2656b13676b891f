"""Any history of requests, cancels, forks, preemptions, shared starts and guesses: every output is
what its request would get alone, and after every step each page is explained."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingot.runtime.constraints.masker import Masker
from ingot.runtime.core import EngineCore
from ingot.runtime.draws import draw, draw_key
from ingot.runtime.kv import PagePool
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.scheduler import Schedule
from ingot.runtime.sequence import Sequence
from tests.runtime.conftest import TOY, FakeClock, FakeExecutor

PAGE = 4
MAX_TOKENS = 40  # prompt and output


def read(tokens: Any) -> str:
    return "".join(f"w{token}" for token in tokens)


def answer(prompt: list[int], params: SamplingParams, index: int) -> list[int]:
    """What a request gets that has the model to itself."""
    tokens = list(prompt)
    device = FakeExecutor(1, 1)
    assert params.max_tokens is not None
    for place in range(params.max_tokens):
        logits = np.array([TOY.toy_logits(tokens)], np.float32)
        for token in set(tokens):
            by = np.float32(params.repetition_penalty)
            logits[0, token] *= 1 / by if logits[0, token] > 0 else by
        for token in tokens[len(prompt) :]:
            logits[0, token] -= np.float32(params.frequency_penalty)
        uniform = draw(draw_key(params.seed, index), place) if params.temperature else 0.0
        values = (params.temperature, params.top_k, params.top_p, params.min_p, uniform)
        tokens += device.sample(logits, SamplingInputs(*(np.array([v]) for v in values)))
    return tokens[len(prompt) :]


class Guesser:
    """Proposes the likeliest tokens, and after some of them a wrong one."""

    def propose(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            count = len(sequence.tokens)
            tokens = list(sequence.tokens)
            for _ in range(count % 4):
                tokens.append(int(TOY.toy_logits(tokens).argmax()))
            if count % 5 == 0:
                tokens.append(1 + count % 7)
            sequence.proposed = tokens[count:]

    def record(self, schedule: Schedule, seconds: float) -> None:
        for chunk in schedule.chunks:
            assert chunk.sequence.proposed == []

    def forget(self, sequence: Sequence) -> None:
        pass


@dataclass
class Expected:
    prompt: list[int]
    params: SamplingParams
    options: RequestOptions
    is_aborted: bool = False
    chunks: list[Chunk] = field(default_factory=list)


# Few starts and few lengths, so that requests begin alike and end on borders of pages.
prompts = st.builds(
    lambda start, length: [1 + (start + i // 3) % 5 for i in range(length)],
    st.integers(0, 1),
    st.sampled_from([1, 3, 4, 5, 8, 9, 12, 16, 23]),
)
wishes = st.builds(
    dict,
    temperature=st.sampled_from([0.0, 0.0, 1.0]),
    seed=st.integers(0, 3),
    n=st.sampled_from([1, 1, 1, 2, 3]),
    max_tokens=st.integers(1, 12),
    prompt_logprobs=st.sampled_from([None, None, None, 0]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 2.0]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.5]),
)
treatments = st.builds(
    RequestOptions,
    priority=st.sampled_from([0, 0, 0, 1, -1]),
    prefix_cache=st.sampled_from([True, True, True, False]),
    cache_salt=st.sampled_from(["", "", "another tenant"]),
    timeout_s=st.sampled_from([None, None, None, 30.0]),
)


class EngineMachine(RuleBasedStateMachine):
    @initialize(
        num_pages=st.integers(MAX_TOKENS // PAGE, 24),
        max_sequences=st.integers(1, 5),
        budget=st.integers(5, 32),
        guesses=st.booleans(),
    )
    def create(self, num_pages: int, max_sequences: int, budget: int, guesses: bool) -> None:
        self.requests: dict[int, Expected] = {}
        self.pool = PagePool(num_pages, PAGE)
        self.core = EngineCore(
            FakeExecutor(num_pages, PAGE),
            self.pool,
            Limits(TOY.VOCAB, MAX_TOKENS, num_pages * PAGE, max_sequences, budget),
            decode=read,
            eos_token_ids=frozenset({0}),
            clock=FakeClock(),
            masker=Masker(Path("no tokenizer"), TOY.VOCAB, []),
            speculator=Guesser() if guesses else None,  # type: ignore[arg-type]
        )

    @rule(prompt=prompts, wishes=wishes, options=treatments, is_ranked=st.booleans())
    def add(
        self, prompt: list[int], wishes: dict[str, Any], options: RequestOptions, is_ranked: bool
    ) -> None:
        best_of = wishes["n"] + 1 if is_ranked and wishes["n"] == 2 else None
        params = SamplingParams(**wishes, best_of=best_of, ignore_eos=True)
        request_id = self.core.add(prompt, params, options)
        self.requests[request_id] = Expected(prompt, params, options)

    @rule(count=st.integers(1, 6))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.receive(self.core.step())
            self.core.check_integrity()

    @rule(which=st.integers(0, 30))
    def abort(self, which: int) -> None:
        if which in self.requests:
            self.requests[which].is_aborted = True
            self.receive(self.core.abort(which))

    def receive(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            assert not [c for c in self.requests[chunk.request_id].chunks if c.is_last]
            self.requests[chunk.request_id].chunks.append(chunk)

    @invariant()
    def pages_are_shared_by_those_who_may(self) -> None:
        if not hasattr(self, "core"):
            return
        self.core.check_integrity()
        owners: dict[int, list[Sequence]] = {}
        for sequence in self.core.scheduler.running:
            for page in sequence.pages:
                owners.setdefault(page, []).append(sequence)
        for sharing in owners.values():
            is_fork = len({s.request_id for s in sharing}) == 1
            assert is_fork or all(s.shares_pages for s in sharing)
            assert is_fork or len({s.cache_salt for s in sharing}) == 1

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        for _ in range(3000):
            if not self.core.has_work:
                break
            self.step(1)
        assert not self.core.has_work, "somebody never finishes"
        assert self.pool.num_used == 0
        for expected in self.requests.values():
            check(expected)


def check(expected: Expected) -> None:
    params = expected.params
    reasons = [chunk.finish_reason for chunk in expected.chunks if chunk.finish_reason]
    assert len(reasons) == params.n
    assert expected.chunks[-1].is_last
    if params.best_of:
        return  # which are the best is another test's matter
    for index in range(params.n):
        chunks = [chunk for chunk in expected.chunks if chunk.index == index]
        tokens = [token for chunk in chunks for token in chunk.token_ids]
        alone = answer(expected.prompt, params, index)
        if chunks[-1].finish_reason == "length":
            assert tokens == alone
        else:
            assert tokens == alone[: len(tokens)]
            assert expected.is_aborted or expected.options.timeout_s
        assert "".join(chunk.text for chunk in chunks) == read(tokens)
        if params.prompt_logprobs is not None and tokens:
            logprobs = chunks[0].prompt_logprobs
            assert [p.token_id for p in logprobs] == expected.prompt[1:]


TestEngineMachine = EngineMachine.TestCase
# Not shrunk: it would take minutes, and the history of a failure is printed as it was.
TestEngineMachine.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
