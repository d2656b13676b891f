"""Sampling: the tokens that float64 picks, their distribution, ties, ends and penalties."""

import numpy as np
import pytest

from ingot.compile.kernels import implementation
from ingot.compile.kernels.sampling import reference
from ingot.compile.kernels.sampling.spec import SamplingSpec
from ingot.targets import Target
from tests.compile.kernels.conftest import Compiled, compile_kernel, normal
from tests.tolerances import assert_close

VOCABULARY = 8209  # blocks of 4096, 1024 or 512 and an odd rest


@pytest.fixture(scope="module")
def sample(target: Target) -> Compiled:
    kernels = implementation("sampling", target)
    return compile_kernel(kernels.build_sample(SamplingSpec(VOCABULARY), target), target)


def draw(sample: Compiled, *arguments: np.ndarray) -> np.ndarray:
    return sample(*arguments, np.full(len(arguments[0]), -7, np.int32))[-1]


def settings(m: int, **given: float) -> list[np.ndarray]:
    """temperature, top_k, top_p and min_p for m rows."""
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **given}
    dtypes = {"top_k": np.int32}
    return [np.full(m, v, dtypes.get(name, np.float32)) for name, v in values.items()]


def test_random_rows_give_the_token_of_the_reference(sample: Compiled, target: Target) -> None:
    m, rng = 400 if target.kind == "cpu" else 60, np.random.default_rng(1)
    logits = normal(m, VOCABULARY) * rng.choice([0.5, 1, 3, 8], (m, 1)).astype(np.float32)
    arguments = [
        logits,
        rng.choice([0, 0.3, 0.7, 1, 1.5], m).astype(np.float32),
        rng.choice([0, 1, 5, 50, VOCABULARY // 2, VOCABULARY, 10**6], m).astype(np.int32),
        rng.choice([1, 0.99, 0.9, 0.5, 0.1, 0], m).astype(np.float32),
        rng.choice([0, 0, 0.05, 0.3, 1], m).astype(np.float32),
        rng.random(m, dtype=np.float32),
    ]
    got = draw(sample, *arguments)
    np.testing.assert_array_equal(got, reference.sample(*arguments))


def test_no_rows(sample: Compiled) -> None:
    empty = np.zeros(0, np.float32)
    assert draw(sample, normal(0, VOCABULARY), *settings(0), empty).shape == (0,)


def test_greedy_takes_the_lowest_index_of_equals(sample: Compiled) -> None:
    logits = normal(5, VOCABULARY)
    best = [(0, 8208), (1023, 1024), (8207, 8208), (4095, 4096), (2048,)]
    for row, columns in enumerate(best):
        logits[row, list(columns)] = 9.0
    tokens = draw(sample, logits, *settings(5, temperature=0), np.zeros(5, np.float32))
    assert tokens.tolist() == [columns[0] for columns in best]


def test_greedy_where_nothing_is_allowed(sample: Compiled) -> None:
    logits = np.full((1, VOCABULARY), -np.inf, np.float32)
    assert draw(sample, logits, *settings(1, temperature=0), np.zeros(1, np.float32))[0] == 0


def test_ties_at_the_threshold_are_all_kept(sample: Compiled, target: Target) -> None:
    m = 300 if target.kind == "cpu" else 40
    logits = np.full((m, VOCABULARY), -5.0, np.float32)
    equals = [3, 700, 1024, 8208]
    logits[:, equals] = 2.0
    uniform = np.linspace(0, 1, m, endpoint=False, dtype=np.float32)
    for given in ({"top_k": 2}, {"top_p": 0.3}, {"min_p": 1.0}):
        tokens = draw(sample, logits, *settings(m, **given), uniform)
        assert sorted(set(tokens.tolist())) == equals


def test_never_draws_a_token_of_no_weight(sample: Compiled) -> None:
    logits = np.full((2, VOCABULARY), -np.inf, np.float32)
    logits[:, 1700] = -3.0
    ends = np.array([0, np.nextafter(np.float32(1), np.float32(0))], np.float32)
    assert draw(sample, logits, *settings(2), ends).tolist() == [1700, 1700]


def test_zeros_of_both_signs_are_equal(sample: Compiled) -> None:
    logits = np.full((20, VOCABULARY), -20.0, np.float32)
    logits[:, 10], logits[:, 5000] = 0.0, -0.0
    uniform = np.linspace(0, 1, 20, endpoint=False, dtype=np.float32)
    for given in ({"top_k": 1}, {"top_p": 0.1}):
        tokens = draw(sample, logits, *settings(20, **given), uniform)
        assert sorted(set(tokens.tolist())) == [10, 5000]


def test_follows_the_distribution(sample: Compiled, target: Target) -> None:
    m = 4000 if target.kind == "cpu" else 100  # an emulated GPU is slow
    logits = np.repeat(normal(1, VOCABULARY) * 4, m, axis=0)
    given = settings(m, temperature=0.8, top_k=20, top_p=0.95)
    uniform = np.random.default_rng(2).random(m, dtype=np.float32)
    tokens = draw(sample, logits, *given, uniform)
    p = reference.distribution(logits[0], 0.8, 20, 0.95, 0.0)
    kept = np.flatnonzero(p)
    counts = np.bincount(tokens, minlength=VOCABULARY)
    assert counts[kept].sum() == m
    chi_square = ((counts[kept] - m * p[kept]) ** 2 / (m * p[kept])).sum()
    assert chi_square < len(kept) + 4 * np.sqrt(2 * len(kept))


def test_penalize(target: Target) -> None:
    vocabulary, m = 100, 4
    offsets = np.array([0, 4, 4, 9, 9], np.int32)
    tokens = np.array([5, 6, 7, 99, 0, 1, 2, 3, 50], np.int32)
    rng = np.random.default_rng(3)
    arguments = [
        normal(m, vocabulary),
        offsets,
        tokens,
        rng.integers(0, 4, 9).astype(np.int32),
        rng.integers(0, 2, 9).astype(np.int32),
        normal(9),
        *(rng.random(m, dtype=np.float32) + 0.5 for _ in range(3)),
    ]
    kernels = implementation("sampling", target)
    run = compile_kernel(kernels.build_penalize(SamplingSpec(vocabulary), target), target)
    got = run(*arguments)[0]
    assert_close(got, reference.penalize(*arguments), "elementwise")
    listed = np.zeros((m, vocabulary), bool)
    listed[0, tokens[:4]] = listed[2, tokens[4:]] = True
    np.testing.assert_array_equal(got[~listed], arguments[0][~listed])
