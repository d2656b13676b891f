"""The kernels of sampling that a check runs: each must choose, forbid and rank as its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ingot.bench.gpu_check.case import Array, Case, Inputs
from ingot.compile.kernels import implementation
from ingot.compile.kernels.sampling import reference
from ingot.compile.kernels.sampling.spec import SamplingSpec
from ingot.runtime.sampling_params import MAX_LOGPROBS
from ingot.targets import Target

PENALTY_BOUND = 4e-6  # absolute: a few roundings of logits below 10
LOGPROB_BOUND = 1e-6  # absolute: exponentials are float32, their sum is float64
PENALIZED = 300  # tokens a row


def make_sampling_cases(*, small: bool) -> Iterator[Case]:
    spec, rows = SamplingSpec(8209 if small else 128_256), 3 if small else 16
    ways: dict[str, Callable[[SamplingSpec, int, np.random.Generator], Iterator[Inputs]]] = {
        "sample": _sample,
        "penalize": _penalize,
        "mask": _mask,
        "logprobs": _logprobs,
    }
    for name, calls in ways.items():
        yield Case(name, partial(_build, f"build_{name}", spec), partial(calls, spec, rows))


def _build(name: str, spec: SamplingSpec, target: Target) -> Any:
    return getattr(implementation("sampling", target), name)(spec, target)


def _logits(spec: SamplingSpec, rows: int, rng: np.random.Generator) -> Array:
    return 2 * rng.standard_normal((rows, spec.vocab_size), np.float32)


def _sample(spec: SamplingSpec, rows: int, rng: np.random.Generator) -> Iterator[Inputs]:
    """Greedy; from the whole distribution; and with all filters."""
    settings = {"greedy": (0, 0, 1, 0), "drawn": (0.8, 0, 1, 0), "filtered": (0.8, 50, 0.9, 0.02)}
    logits = _logits(spec, rows, rng)
    for label, values in settings.items():
        temperature, top_k, top_p, min_p = (np.full(rows, value, np.float32) for value in values)
        uniform = rng.random(rows, np.float32)
        arrays = [logits, temperature, top_k.astype(np.int32), top_p, min_p, uniform]
        tokens = reference.sample(*arrays)
        yield Inputs(f"{rows} rows, {label}", arrays, 0, logits.nbytes, (tokens,))


def _penalize(spec: SamplingSpec, rows: int, rng: np.random.Generator) -> Iterator[Inputs]:
    tokens = [rng.permutation(spec.vocab_size)[:PENALIZED] for _ in range(rows)]
    listed = rows * PENALIZED
    arrays: list[Array] = [
        _logits(spec, rows, rng),
        np.arange(rows + 1, dtype=np.int32) * np.int32(PENALIZED),
        np.concatenate(tokens).astype(np.int32),
        rng.integers(0, 4, listed).astype(np.int32),
        rng.integers(0, 2, listed).astype(np.int32),
        rng.standard_normal(listed, np.float32),
        *(rng.random((3, rows), np.float32) + 0.5),
    ]
    right = (reference.penalize(*arrays),)
    label = f"{rows} rows, {PENALIZED} tokens each"
    yield Inputs(label, arrays, 0, 20 * listed, right, PENALTY_BOUND, in_place=True)


def _mask(spec: SamplingSpec, rows: int, rng: np.random.Generator) -> Iterator[Inputs]:
    logits = _logits(spec, rows, rng)
    bits = rng.integers(-(2**31), 2**31, (rows, spec.num_words)).astype(np.int32)
    arrays: list[Array] = [logits, np.arange(rows, dtype=np.int32), bits]
    right, written = reference.mask(*arrays), logits.nbytes // 2
    yield Inputs(f"{rows} rows", arrays, 0, bits.nbytes + written, (right,), in_place=True)


def _logprobs(spec: SamplingSpec, rows: int, rng: np.random.Generator) -> Iterator[Inputs]:
    logits = _logits(spec, rows, rng)
    tokens = rng.integers(0, spec.vocab_size, rows).astype(np.int32)
    num_top = np.full(rows, MAX_LOGPROBS, np.int32)
    right = reference.logprobs(logits, tokens, num_top, MAX_LOGPROBS)
    yield Inputs(
        f"{rows} rows", [logits, tokens, num_top], 0, logits.nbytes, (right,), LOGPROB_BOUND
    )
