"""`propose.py ARTIFACT`: steps with proposed tokens, in a process that emulates a GPU.

Prints as JSON the token after each of them, what each step asked of the GPU, and how much memory
prompts of other lengths took after that.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from ingot.runtime.artifact import load_artifact
from ingot.runtime.executor import CompiledExecutor
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.step_inputs import StepInputs
from tests.emulated_gpu.counts import read_counts

CONTEXTS = (5, 29, 40)  # the second comes to its second page on the way
NUM_PAGES = 8
# How many tokens of each sequence are new; four of three sequences are a bucket of sixteen rows.
STEPS = ((1, 1, 1), (3, 1, 2), (1, 4, 1), (5,), (1, 1))


def build(starts: list[int], counts: tuple[int, ...], page_size: int, seed: int) -> StepInputs:
    """A step of so many random tokens of each sequence; only whole prompts want one row."""
    owners = np.repeat(np.arange(len(counts)), counts)
    offsets = np.array([0, *np.cumsum(counts)], np.int32)
    ends = np.array(starts[: len(counts)]) + counts
    sides = zip(ends, counts, strict=True)
    positions = np.concatenate([np.arange(end - count, end) for end, count in sides])
    table = 1 + np.arange(len(counts))[:, None] * 2 + np.arange(2)
    slots = table[owners, positions // page_size] * page_size + positions % page_size
    rows = np.arange(len(owners)) if max(starts) else offsets[1:] - 1
    arrays = (positions, slots, table, offsets, ends, rows)
    tokens = np.random.default_rng(seed).integers(0, 300, len(owners))
    return StepInputs(tokens.astype(np.int32), *(array.astype(np.int32) for array in arrays))


def greedy(num_rows: int) -> SamplingInputs:
    zeros, ones = np.zeros(num_rows, np.float32), np.ones(num_rows, np.float32)
    return SamplingInputs(zeros, np.zeros(num_rows, np.int32), ones, zeros, zeros)


def main(path: str) -> None:
    artifact = load_artifact(path)
    page_size = artifact.manifest.page_size_tokens
    executor = CompiledExecutor(
        artifact, num_pages=NUM_PAGES, max_step_tokens=128, max_sequences=4, max_proposed=4
    )
    starts = [0] * len(CONTEXTS)
    tokens, steps = [], []
    for seed, counts in enumerate((CONTEXTS, *STEPS)):
        inputs, before = build(starts, counts, page_size, seed), read_counts()
        tokens.append(executor.step_and_sample(inputs, greedy(len(inputs.logit_rows))))
        steps.append((read_counts() - before).values())
        for place, count in enumerate(counts):
            starts[place] += count
    allocations = []
    for count in (40, 33, 11):
        inputs, before = build([0], (count,), page_size, count), read_counts()
        executor.step_and_sample(inputs, greedy(1))
        allocations.append((read_counts() - before).allocations)
    print(json.dumps({"tokens": tokens, "steps": steps, "allocations": allocations}))


if __name__ == "__main__":
    main(*sys.argv[1:])
