"""Which steps get a graph and what fills its buffers."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from ingot.runtime.cuda.buckets import (
    BATCHES,
    PADDING,
    Bucket,
    bucket_for,
    buckets_up_to,
    spread,
)
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.step_inputs import StepInputs
from tests.emulated_gpu.emulator import build_driver, run_emulated


def step(
    num_tokens: int, num_sequences: int, num_rows: int, num_pages: int = 1, context: int = 99
) -> StepInputs:
    """The first sequence has all tokens that are more than the sequences."""

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int32)

    first = num_tokens - num_sequences + 1
    return StepInputs(
        token_ids=zeros(num_tokens),
        positions=zeros(num_tokens),
        slots=zeros(num_tokens),
        page_table=zeros(num_sequences, num_pages),
        query_offsets=np.array([0, *range(first, num_tokens + 1)], np.int32),
        context_lengths=zeros(num_sequences) + np.int32(context),
        logit_rows=np.arange(num_rows, dtype=np.int32),
    )


@pytest.mark.parametrize(
    ("inputs", "bucket"),
    [
        (step(1, 1, 1), Bucket(1, 8)),
        (step(3, 3, 3, 8), Bucket(4, 8)),
        (step(9, 9, 9, 9), Bucket(16, 16)),
        (step(64, 64, 64, 33), Bucket(64, 64)),
        (step(5, 5, 2), Bucket(8, 8)),  # three of them still read their prompts
        (step(65, 65, 65), None),
        (step(4, 3, 3), None),  # a prompt
        (step(1, 1, 2), None),  # two outputs of one prompt
        # Proposed tokens: each sequence has as many as the one with the most, up to a power of two.
        (step(4, 3, 4), Bucket(4, 8, 2)),
        (step(11, 1, 11, 9), Bucket(1, 16, 16)),
        (step(11, 1, 11, context=15), None),  # less than a bucket of tokens
        (step(17, 16, 17), Bucket(16, 8, 2)),
        (step(20, 16, 20), None),
        (step(65, 1, 65), None),
    ],
)
def test_bucket(inputs: StepInputs, bucket: Bucket | None) -> None:
    assert bucket_for(inputs) == bucket


def test_buckets_to_begin_with() -> None:
    assert list(buckets_up_to(0)) == []
    assert list(buckets_up_to(1)) == [Bucket(1, 8)]
    assert list(buckets_up_to(3)) == [Bucket(1, 8), Bucket(2, 8), Bucket(4, 8)]
    assert [bucket.num_rows for bucket in buckets_up_to(500)] == [1, 2, 4, 8, 16, 24, 32, 48, 64]
    proposed = [(b.num_sequences, b.num_each) for b in buckets_up_to(2, 3)]
    assert proposed == [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)]
    # What comes after the logits is captured for so many rows.
    assert {bucket.num_rows for bucket in buckets_up_to(500, 64)} == set(BATCHES)


def test_proposed_tokens_are_spread() -> None:
    def ints(*values: int) -> np.ndarray:
        return np.array(values, np.int32)

    ones = np.ones(4, np.float32)
    step = StepInputs(
        token_ids=ints(1, 2, 3, 4),
        positions=ints(20, 21, 22, 9),
        slots=ints(30, 31, 32, 49),
        page_table=ints(1, 2, 3, 0).reshape(2, 2),
        query_offsets=ints(0, 3, 4),
        context_lengths=ints(23, 10),
        logit_rows=np.arange(4, dtype=np.int32),
    )
    sampling = SamplingInputs(ones, ints(5, 6, 7, 8), ones, ones, ones)
    wide = spread(step, sampling, 4)
    assert wide.places.tolist() == [1, 2, 3, 7]
    assert wide.inputs.token_ids.tolist() == [0, 1, 2, 3, 0, 0, 0, 4]
    assert wide.inputs.slots.tolist() == [-1, 30, 31, 32, -1, -1, -1, 49]
    assert wide.inputs.query_offsets.tolist() == [0, 4, 8]
    assert wide.inputs.context_lengths.tolist() == [23, 10]
    assert wide.inputs.logit_rows.tolist() == list(range(8))
    assert wide.sampling.top_k.tolist() == [0, 5, 6, 7, 0, 0, 0, 8]
    for record in (wide.inputs, wide.sampling):
        for field in fields(record):
            assert getattr(record, field.name).dtype == PADDING[field.name].dtype, field.name


FILL = """
import numpy as np
from ingot.runtime.cuda import CudaMemory
from ingot.runtime.cuda.driver import Stream
from ingot.runtime.cuda.buckets import Bucket, BucketArguments
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.step_inputs import StepInputs
from tests.emulated_gpu.counts import read_counts

def ints(*values): return np.array(values, np.int32)
def floats(*values): return np.array(values, np.float32)
def inputs(rows):
    count = np.arange(rows, dtype=np.int32)
    return StepInputs(count + 5, count + 70, count + 300, np.full((rows, 3), 9, np.int32),
                      np.arange(rows + 1, dtype=np.int32), count + 71, count)
def sampling(rows):
    ones = np.ones(rows, np.float32)
    return SamplingInputs(ones, np.full(rows, 40, np.int32), ones / 2, ones / 4, ones / 8)

memory, stream = CudaMemory(), Stream()
step = BucketArguments(Bucket(4, 8), StepInputs, 2)
choice = BucketArguments(Bucket(4, 8), SamplingInputs)
step.fill(None, stream)
choice.fill(None, stream)
stream.wait()
assert memory.read(step.tensors["slots"]).tolist() == [-1] * 4
assert memory.read(step.tensors["context_lengths"]).tolist() == [1] * 4
for rows in (3, 2, 2):  # what the first wrote must not stay
    before = read_counts()
    step.fill(inputs(rows), stream)
    choice.fill(sampling(rows), stream)
    assert (read_counts() - before).values() == (0, 0, 2, 0, 0, 0, 0)
    stream.wait()
# The host has two of the first: it may be filled while its last copy waits, and not once more.
step.fill(inputs(4), stream)
step.fill(inputs(2), stream)
before = read_counts()
step.fill(inputs(2), stream)
assert (read_counts() - before).waits == 1
stream.wait()
read = [memory.read(tensor) for one in (step, choice) for tensor in one.tensors.values()]
tokens, positions, slots, pages, offsets, contexts, logit_rows, *choice = read
assert tokens.tolist() == [5, 6, 0, 0] and positions.tolist() == [70, 71, 0, 0]
assert slots.tolist() == [300, 301, -1, -1]  # the other rows write nowhere
assert pages.shape == (4, 8) and pages.sum() == 2 * 3 * 9 and (pages[:2, :3] == 9).all()
assert offsets.tolist() == [0, 1, 2, 3, 4] and contexts.tolist() == [71, 72, 1, 1]
assert logit_rows.tolist() == [0, 1, 0, 0]
temperature, top_k, top_p, min_p, uniform = [array.tolist() for array in choice]
assert temperature == [1, 1, 0, 0] and top_k == [40, 40, 0, 0] and top_p == [0.5, 0.5, 1, 1]
assert min_p == [0.25, 0.25, 0, 0] and uniform == [0.125, 0.125, 0, 0]
print("ok")
"""


def test_fill(tmp_path: Path) -> None:
    assert run_emulated(build_driver(tmp_path), FILL) == "ok\n"
