"""The compiled executor agrees with the fake one, call by call."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingot.runtime.artifact import load_artifact
from ingot.runtime.executor import CompiledExecutor
from ingot.runtime.sampling import PenaltyInputs, SamplingInputs
from ingot.runtime.step_inputs import StepInputs
from ingot.runtime.vm import as_array


@pytest.fixture(scope="module")
def executor(toy_folder: Path) -> CompiledExecutor:
    return CompiledExecutor(load_artifact(toy_folder), num_pages=4, num_threads=1)


def int32s(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def two_prompts() -> StepInputs:
    return StepInputs(
        token_ids=int32s(3, 1, 4, 9),
        positions=int32s(0, 1, 2, 0),
        slots=int32s(32, 33, 34, 16),
        page_table=int32s([2], [1]),
        query_offsets=int32s(0, 3, 4),
        context_lengths=int32s(3, 1),
        logit_rows=int32s(2, 3),
    )


def test_step(executor: CompiledExecutor, toy: ModuleType) -> None:
    logits = executor.step(two_prompts())
    for row, tokens in enumerate(([3, 1, 4], [9])):
        np.testing.assert_allclose(
            as_array(logits)[row], toy.toy_logits(tokens), rtol=1e-5, atol=1e-5
        )


def test_embed(executor: CompiledExecutor, toy: ModuleType) -> None:
    hidden = executor.embed(two_prompts())
    assert hidden.shape == (2, toy.VOCAB) and hidden.dtype == np.float32
    np.testing.assert_allclose(hidden[1], toy.toy_logits([9]), rtol=1e-5, atol=1e-5)


def test_trace(executor: CompiledExecutor, toy: ModuleType) -> None:
    logits, hidden = executor.trace(two_prompts())
    np.testing.assert_allclose(logits[0], toy.toy_logits([3, 1, 4]), rtol=1e-5, atol=1e-5)
    assert hidden.tolist() == [0, 1, 2, 0]  # the toy model's only layer gives the positions


def test_penalize_changes_the_logits_in_place(executor: CompiledExecutor) -> None:
    logits = executor.step(two_prompts())
    before = as_array(logits)[1].copy()
    executor.penalize(
        logits,
        PenaltyInputs(
            row_offsets=int32s(0, 0, 2),
            tokens=int32s(9, 5),
            output_counts=int32s(0, 3),
            seen=int32s(1, 0),
            bias=floats(2, 0),
            repetition=floats(1, 2),
            presence=floats(0, 0.5),
            frequency=floats(0, 0.25),
        ),
    )
    expected = before.copy()
    expected[9] = (before[9] / 2 if before[9] > 0 else before[9] * 2) + 2
    expected[5] = before[5] - 0.5 - 0.75
    np.testing.assert_allclose(as_array(logits)[1], expected, rtol=1e-6)


def test_sample(executor: CompiledExecutor, toy: ModuleType) -> None:
    logits = executor.step(two_prompts())
    inputs = SamplingInputs(
        temperature=floats(0, 1),
        top_k=int32s(0, 0),
        top_p=floats(1, 1),
        min_p=floats(0, 0),
        uniform=floats(0.3, 0.3),
    )
    tokens = executor.sample(logits, inputs)
    scores = toy.toy_logits([9])
    shares = np.cumsum(np.exp(scores) / np.exp(scores).sum())
    assert tokens == [int(toy.toy_logits([3, 1, 4]).argmax()), int(np.searchsorted(shares, 0.3))]
    assert all(type(token) is int for token in tokens)


def greedy(rows: int) -> SamplingInputs:
    return SamplingInputs(
        floats(*[0] * rows),
        int32s(*[0] * rows),
        floats(*[1] * rows),
        floats(*[0] * rows),
        floats(*[0] * rows),
    )


def test_steps_that_are_alike_allocate_nothing(toy_folder: Path) -> None:
    executor = CompiledExecutor(
        load_artifact(toy_folder), num_pages=4, num_threads=1, max_step_tokens=4, max_sequences=2
    )
    called: list[str] = []
    executor.vm.observe(lambda _function, name, before, *_: called.append(name))
    for turn in range(3):
        called.clear()
        assert len(executor.step_and_sample(two_prompts(), greedy(2))) == 2
        allocations = [name for name in called if "alloc" in name and "shape_heap" not in name]
        assert called and bool(allocations) == (turn == 0), allocations  # the first lays out views
        assert not [name for name in called if "alloc_storage" in name], "planned when loaded"
