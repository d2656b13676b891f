"""Chunks to what a reader gets who was not there when they came."""

from ingot.runtime.outputs import Chunk, RequestStats, TokenLogprob, merge_chunks


def test_one_chunk_for_each_output_and_the_last_is_last() -> None:
    stats = RequestStats(1, 2, 0, 0.1, 0.1, 0.2)
    likely = TokenLogprob(7, -0.5)
    first = Chunk(3, "a", (1,), (likely,), index=1, prompt_logprobs=(likely,))
    other = Chunk(3, "x", (5,), index=0)
    end = Chunk(3, "b", (2, 3), (likely,), "stop", stats, index=1, is_last=True)
    more = Chunk(3, "y", (6,), index=0, finish_reason="length")
    assert merge_chunks([first, other, more, end]) == [
        Chunk(3, "xy", (5, 6), index=0, finish_reason="length"),
        Chunk(
            3, "ab", (1, 2, 3), (likely, likely), "stop", stats, 1, True, prompt_logprobs=(likely,)
        ),
    ]
    assert merge_chunks([other]) == [other]
