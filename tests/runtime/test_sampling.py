"""Penalties name each token once, numbers come from the request's own generator."""

import numpy as np
import pytest

from ingot.runtime.draws import draw_key
from ingot.runtime.sampling import (
    FORBIDDEN,
    LogitRow,
    build_penalties,
    build_sampling,
    log_softmax,
    token_logprob,
)
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.sequence import Sequence
from ingot.runtime.text_stream import TextStream


def make_sequence(
    prompt: list[int], output: list[int], params: SamplingParams, ends: frozenset[int] = frozenset()
) -> Sequence:
    sequence = Sequence(
        request_id=0,
        tokens=list(prompt),
        num_prompt_tokens=len(prompt),
        params=params,
        max_total_tokens=99,
        text=TextStream(lambda tokens: ""),
        draw_key=draw_key(params.seed, 0),
        end_token_ids=ends,
    )
    for token in output:
        sequence.tokens.append(token)
    return sequence


def rows(*sequences: Sequence) -> list[LogitRow]:
    return [LogitRow(sequence) for sequence in sequences]


PLAIN = make_sequence([1, 2], [3], SamplingParams())


def test_usually_there_is_nothing_to_penalize() -> None:
    assert build_penalties(rows(PLAIN, PLAIN)) is None
    fresh = make_sequence([1], [], SamplingParams(presence_penalty=1, frequency_penalty=1))
    assert build_penalties(rows(fresh)) is None, "no output yet"


def test_penalties_of_a_batch() -> None:
    repeating = make_sequence([5, 6], [6, 7, 7], SamplingParams(repetition_penalty=1.5))
    counting = make_sequence(
        [5], [8, 8], SamplingParams(frequency_penalty=0.5, presence_penalty=0.25)
    )
    biased = make_sequence([9], [], SamplingParams(logit_bias={9: 2.0, 4: -1.0}))
    inputs = build_penalties(rows(repeating, PLAIN, counting, biased))
    assert inputs is not None
    assert inputs.row_offsets.tolist() == [0, 3, 3, 4, 6]
    assert inputs.tokens.tolist() == [5, 6, 7, 8, 9, 4]
    assert inputs.output_counts.tolist() == [0, 1, 2, 2, 0, 0]
    assert inputs.seen.tolist() == [1, 1, 1, 1, 0, 0], "in the prompt only if it is penalized"
    assert inputs.bias.tolist() == [0, 0, 0, 0, 2, -1]
    assert inputs.repetition.tolist() == [1.5, 1, 1, 1]
    assert inputs.presence.tolist() == [0, 0, 0.25, 0]
    assert inputs.frequency.tolist() == [0, 0, 0.5, 0]


def test_no_end_before_min_tokens() -> None:
    params = SamplingParams(min_tokens=2, logit_bias={0: 1.0})
    early = make_sequence([5], [6], params, ends=frozenset({0}))
    inputs = build_penalties(rows(early))
    assert inputs is not None
    assert inputs.tokens.tolist() == [0]
    assert inputs.bias.tolist() == [pytest.approx(FORBIDDEN)]
    early.tokens.append(6)
    late = build_penalties(rows(early))
    assert late is not None and late.bias.tolist() == [1.0]


def test_proposed_tokens_count_as_output_in_the_rows_after_them() -> None:
    params = SamplingParams(
        repetition_penalty=1.5, frequency_penalty=0.5, min_tokens=3, temperature=1
    )
    sequence = make_sequence([5], [6], params, ends=frozenset({0}))
    sequence.proposed = [6, 7]
    drafted = [LogitRow(sequence, num) for num in range(3)]
    inputs = build_penalties(drafted)
    assert inputs is not None
    assert inputs.row_offsets.tolist() == [0, 3, 6, 9]
    assert inputs.tokens.tolist() == [5, 6, 0, 5, 6, 0, 5, 6, 7]
    assert inputs.output_counts.tolist() == [0, 1, 0, 0, 2, 0, 0, 2, 1]
    uniform = build_sampling(drafted).uniform.tolist()
    for place, token in enumerate([6, 7]):
        sequence.tokens.append(token)
        assert build_sampling(rows(sequence)).uniform[0] == uniform[place + 1]


def test_rows_of_the_prompt_are_as_the_model_gave_them() -> None:
    params = SamplingParams(repetition_penalty=2, temperature=1)
    assert build_penalties([LogitRow(make_sequence([1, 2], [], params), 0, 2)]) is None


def test_sampling_of_a_batch() -> None:
    warm = SamplingParams(temperature=0.5, top_k=7, top_p=0.75, min_p=0.125, seed=1)
    inputs = build_sampling(rows(PLAIN, make_sequence([1], [], warm)))
    assert inputs.temperature.tolist() == [0, 0.5]
    assert inputs.top_k.tolist() == [0, 7]
    assert inputs.top_p.tolist() == [1, 0.75]
    assert inputs.min_p.tolist() == [0, 0.125]
    assert inputs.uniform.dtype == np.float32
    assert ((inputs.uniform >= 0) & (inputs.uniform < 1)).all()


def test_a_seed_draws_the_same_whatever_runs_beside_it() -> None:
    def draw(*others: Sequence) -> list[float]:
        mine = make_sequence([1], [], SamplingParams(temperature=1, seed=42))
        drawn = []
        for token in range(4):
            drawn.append(float(build_sampling(rows(*others, mine)).uniform[-1]))
            mine.tokens.append(token)
        return drawn

    assert draw() == draw(PLAIN, PLAIN)
    assert len(set(draw())) == 4


def test_without_a_seed_requests_differ() -> None:
    params = SamplingParams(temperature=1)
    inputs = build_sampling(rows(*(make_sequence([1], [], params) for _ in range(8))))
    assert len(set(inputs.uniform.tolist())) == 8


def test_log_softmax_of_large_logits() -> None:
    logprobs = log_softmax(np.array([1e4, 1e4, -1e4], np.float32))
    np.testing.assert_allclose(logprobs[:2], -np.log(2), rtol=1e-12)
    assert logprobs[2] == -2e4 - np.log(2)


@pytest.mark.parametrize(("num_top", "expected"), [(0, []), (1, [2]), (3, [2, 1, 3]), (9, None)])
def test_token_logprob(num_top: int, expected: list[int] | None) -> None:
    logits = np.array([0.0, 2.0, 3.0, 2.0], np.float32)
    result = token_logprob(logits, token=1, num_top=num_top)
    assert result.token_id == 1
    assert result.logprob == pytest.approx(2 - np.log(1 + 2 * np.e**2 + np.e**3))
    assert [token for token, _ in result.top] == (
        expected if expected is not None else [2, 1, 3, 0]
    )
