"""Masks and log-probabilities on a GPU, which a CPU's runtime works out on the host."""

import numpy as np
import pytest

from ingot.compile.kernels.cuda_ir import LOWEST
from ingot.compile.kernels.sampling import reference
from ingot.compile.kernels.sampling.cuda import (
    build_logprobs,
    build_mask,
)
from ingot.compile.kernels.sampling.cuda_logprobs import (
    CHOSEN,
    LOG_TOTAL,
    MAX_TOP,
    NUM_FIELDS,
    TOP_LOGITS,
    TOP_TOKENS,
)
from ingot.compile.kernels.sampling.spec import WORD_BITS, SamplingSpec
from ingot.runtime import sampling
from ingot.runtime.constraints import masks
from ingot.runtime.sampling_params import MAX_LOGPROBS
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_kernel, normal

VOCABULARY = 8209  # two splits of 4096, and an odd rest


def test_runtime_and_kernels_agree() -> None:
    assert sampling.LOG_TOTAL == LOG_TOTAL and sampling.TOP_LOGITS == TOP_LOGITS
    assert sampling.CHOSEN == CHOSEN and sampling.TOP_TOKENS == TOP_TOKENS
    assert sampling.NUM_RANKED_FIELDS == NUM_FIELDS and MAX_LOGPROBS == MAX_TOP
    assert masks.MASKED == LOWEST


def int32s(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize("vocabulary", [31, 33, VOCABULARY])
def test_mask(vocabulary: int, gpu_target: Target) -> None:
    spec = SamplingSpec(vocabulary)
    run = compile_kernel(build_mask(spec, gpu_target), gpu_target)
    rng = np.random.default_rng(1)
    bits = rng.integers(-(2**31), 2**31, (3, spec.num_words)).astype(np.int32)
    bits[1], bits[2] = 0, -1
    bits[1, (vocabulary - 1) // WORD_BITS] = 1 << (vocabulary - 1) % WORD_BITS
    logits, rows = normal(6, vocabulary), int32s(-1, 2, 0, -1, 1, 0)
    got = run(logits, rows, bits)[0]
    np.testing.assert_array_equal(got, reference.mask(logits, rows, bits))
    assert np.flatnonzero(got[4] > -1e38).tolist() == [vocabulary - 1]


@pytest.fixture(scope="module")
def logprobs(gpu_target: Target) -> object:
    return compile_kernel(build_logprobs(SamplingSpec(VOCABULARY), gpu_target), gpu_target)


def test_logprobs(logprobs: object) -> None:
    """Ties, minus infinities, a split with nothing in it, and rows that ask for nothing."""
    num_top = int32s(-1, 0, 1, 20, 7, 5, 3, -1)
    m = len(num_top)
    logits = normal(m, VOCABULARY) * 4
    logits[4, [0, 4095, 4096, 8208]] = 60.0
    logits[5, 4096:8192] = -np.inf
    logits[6, [3, 9]] = 0.0, -0.0
    logits[6, np.setdiff1d(np.arange(VOCABULARY), [3, 9])] -= 100
    tokens = np.random.default_rng(2).integers(0, VOCABULARY, m).astype(np.int32)
    tokens[5] = 8208
    marked = np.full((m, NUM_FIELDS), np.nan)
    got = logprobs(logits, tokens, num_top, marked)[-1]  # type: ignore[operator]
    want = reference.logprobs(logits, tokens, num_top, MAX_TOP)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got[:, LOG_TOTAL], want[:, LOG_TOTAL], atol=1e-6, rtol=0)
    np.testing.assert_array_equal(got[:, 1:], want[:, 1:])
    assert got[6, TOP_LOGITS + MAX_TOP :][:2].tolist() == [3, 9]


def test_a_small_vocabulary(gpu_target: Target) -> None:
    run = compile_kernel(build_logprobs(SamplingSpec(7), gpu_target), gpu_target)
    arguments = [normal(2, 7), int32s(6, 0), int32s(7, 2)]
    got = run(*arguments, np.full((2, NUM_FIELDS), np.nan))[-1]
    want = reference.logprobs(*arguments, MAX_TOP)
    np.testing.assert_allclose(got, want, atol=1e-6, rtol=0)
