"""The step's arrays say where each token is, in one row for all sequences."""

from array import array
from dataclasses import replace

import numpy as np

from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.scheduler import ScheduledChunk
from ingot.runtime.sequence import Sequence
from ingot.runtime.step_inputs import build_step_inputs
from ingot.runtime.text_stream import TextStream


def make_chunk(tokens: list[int], cached: int, pages: list[int], num_tokens: int) -> ScheduledChunk:
    sequence = Sequence(
        request_id=0,
        tokens=tokens,
        num_prompt_tokens=len(tokens),
        params=SamplingParams(),
        max_total_tokens=99,
        text=TextStream(lambda tokens: ""),
        draw_key=0,
        end_token_ids=frozenset(),
        pages=array("i", pages),
        num_cached_tokens=cached,
    )
    return ScheduledChunk(sequence, num_tokens)


def test_prefill_chunk_and_decode_together() -> None:
    prompt = make_chunk([10, 11, 12, 13, 14], cached=0, pages=[7, 2], num_tokens=5)
    middle = make_chunk(list(range(20, 32)), cached=3, pages=[4, 5, 6], num_tokens=4)
    decode = make_chunk(list(range(40, 50)), cached=9, pages=[0, 1, 3], num_tokens=1)
    inputs = build_step_inputs([prompt, middle, decode], 4, [4, 9])
    assert inputs.token_ids.tolist() == [10, 11, 12, 13, 14, 23, 24, 25, 26, 49]
    assert inputs.positions.tolist() == [0, 1, 2, 3, 4, 3, 4, 5, 6, 9]
    assert inputs.slots.tolist() == [28, 29, 30, 31, 8, 19, 20, 21, 22, 13]
    assert inputs.page_table.tolist() == [[7, 2, 0], [4, 5, 6], [0, 1, 3]]
    assert inputs.query_offsets.tolist() == [0, 5, 9, 10]
    assert inputs.context_lengths.tolist() == [5, 7, 10]
    assert inputs.logit_rows.tolist() == [4, 9]
    assert {array.dtype for array in inputs.arrays()} == {np.dtype(np.int32)}


def test_only_pages_in_use_are_passed() -> None:
    chunk = make_chunk(list(range(12)), cached=0, pages=[3, 4, 5], num_tokens=4)
    assert build_step_inputs([chunk], 4, [3]).page_table.tolist() == [[3]]


def test_a_page_that_was_given_ahead_is_passed() -> None:
    ahead = make_chunk(list(range(8)), cached=7, pages=[3, 4, 5], num_tokens=1)
    other = make_chunk(list(range(2)), cached=1, pages=[6], num_tokens=1)
    inputs = build_step_inputs([ahead, other], 4, [0, 1])
    assert inputs.page_table.tolist() == [[3, 4, 5], [6, 0, 0]]
    assert inputs.context_lengths.tolist() == [8, 2]
    # Of a prompt that is read in chunks, the pages of later ones are none of a step's.
    early = make_chunk(list(range(12)), cached=3, pages=[3, 4, 5], num_tokens=1)
    assert build_step_inputs([early], 4, []).page_table.tolist() == [[3]]


def test_a_step_without_an_end_has_one_row_all_the_same() -> None:
    chunk = make_chunk(list(range(12)), cached=4, pages=[3, 4, 5], num_tokens=4)
    assert build_step_inputs([chunk], 4, []).logit_rows.tolist() == [3]


def test_proposed_tokens_follow_the_sequences_own() -> None:
    chunk = make_chunk([10, 11, 12], cached=2, pages=[3, 1], num_tokens=3)
    chunk.sequence.proposed = [20, 21, 22]
    inputs = build_step_inputs([replace(chunk, num_proposed=2)], 4, [0, 1, 2])
    assert inputs.token_ids.tolist() == [12, 20, 21]
    assert inputs.slots.tolist() == [14, 15, 4]
    assert inputs.context_lengths.tolist() == [5]
    assert inputs.logit_rows.tolist() == [0, 1, 2]


def test_a_shared_page_is_read_and_not_written() -> None:
    chunk = make_chunk([10, 11, 12, 13], cached=3, pages=[3], num_tokens=1)
    chunk.sequence.num_shared_tokens = 4
    other = make_chunk([10, 11, 12, 13, 14], cached=4, pages=[3, 5], num_tokens=1)
    inputs = build_step_inputs([chunk, other], 4, [0, 1])
    assert inputs.slots.tolist() == [-1, 20]
    assert inputs.positions.tolist() == [3, 4]
