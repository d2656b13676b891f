"""Scheduling as lists of events: what each step runs, admits and preempts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.runtime.kv import PagePool
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.scheduler import Scheduler
from ingot.runtime.sequence import Sequence
from ingot.runtime.text_stream import TextStream


class Bench:
    """A scheduler and the requests given to it. A token of request r is always r."""

    def __init__(
        self, pages: int = 100, page_size: int = 4, sequences: int = 8, budget: int = 16
    ) -> None:
        self.scheduler = Scheduler(
            PagePool(pages, page_size), max_sequences=sequences, max_step_tokens=budget
        )
        self.left: dict[int, int] = {}
        self.log: list[str] = []

    def add(self, request_id: int, prompt: int, output: int = 1, priority: int = 0) -> Sequence:
        sequence = Sequence(
            request_id=request_id,
            tokens=[request_id] * prompt,
            num_prompt_tokens=prompt,
            params=SamplingParams(),
            max_total_tokens=prompt + output,
            text=TextStream(lambda tokens: ""),
            draw_key=0,
            end_token_ids=frozenset(),
            priority=priority,
        )
        self.left[request_id] = output
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> str:
        """Run one step, as the engine would, and describe it: `+` admitted, `-` preempted, then
        request:tokens, `!` where a token was sampled, `.` where the request finished."""
        schedule = self.scheduler.schedule()
        self.scheduler.check_integrity()
        words = [f"-{s.request_id}" for s in schedule.preempted]
        words += [f"+{s.request_id}" for s in schedule.admitted]
        assert schedule.num_tokens <= self.scheduler.max_step_tokens
        ready = [chunk.sequence for chunk in schedule.chunks if chunk.is_last]
        for chunk in schedule.chunks:
            sequence = chunk.sequence
            mark = "!" if sequence in ready else ""
            if sequence in ready:
                sequence.tokens.append(sequence.request_id)
            self.scheduler.advance(sequence, chunk.num_tokens)
            if sequence in ready:
                self.left[sequence.request_id] -= 1
                if not self.left[sequence.request_id]:
                    self.scheduler.remove(sequence)
                    mark = "."
            words.append(f"{sequence.request_id}:{chunk.num_tokens}{mark}")
        return " ".join(words)

    def run(self, limit: int = 50) -> list[str]:
        steps = []
        while self.scheduler.has_work:
            steps.append(self.step())
            assert len(steps) < limit, steps
        assert self.scheduler.pool.num_used == 0
        return steps


def test_pages_are_given_ahead_of_what_is_left() -> None:
    bench = Bench(pages=3, page_size=4)
    bench.scheduler.gives_ahead = True
    first = bench.add(1, prompt=3, output=5)
    held = []
    for _ in range(4):
        bench.step()
        held.append((len(first.tokens), len(first.pages)))
    # The step that read the 4th token came with the page of the 5th; the 8th is the last.
    assert held == [(4, 1), (5, 2), (6, 2), (7, 2)]
    assert bench.run() == ["1:1."]


def test_a_newcomer_goes_before_pages_that_are_given_ahead() -> None:
    bench = Bench(pages=2, page_size=4)
    bench.scheduler.gives_ahead = True
    first = bench.add(1, prompt=3, output=4)
    bench.step()
    bench.add(2, prompt=4, output=1)
    assert bench.step() == "+2 1:1! 2:4."
    assert len(first.pages) == 1
    assert bench.run() == ["1:1!", "1:1."]


def test_one_request() -> None:
    bench = Bench()
    bench.add(0, prompt=5, output=3)
    assert bench.run() == ["+0 0:5!", "0:1!", "0:1."]


def test_a_long_prompt_is_read_in_chunks() -> None:
    bench = Bench(budget=16)
    bench.add(0, prompt=37, output=2)
    assert bench.run() == ["+0 0:16", "0:16", "0:5!", "0:1."]


@pytest.mark.parametrize(
    ("prompt", "chunks"), [(15, ["+0 0:15."]), (16, ["+0 0:16."]), (17, ["+0 0:16", "0:1."])]
)
def test_chunks_at_the_border(prompt: int, chunks: list[str]) -> None:
    bench = Bench(budget=16)
    bench.add(0, prompt=prompt)
    assert bench.run() == chunks


def test_decoding_goes_before_reading() -> None:
    bench = Bench(budget=8)
    bench.add(0, prompt=3, output=4)
    bench.add(1, prompt=14, output=2)
    assert bench.run() == [
        "+0 +1 0:3! 1:5",
        "0:1! 1:7",
        "0:1! 1:2!",
        "0:1. 1:1.",
    ]


def test_requests_join_and_leave_between_steps() -> None:
    bench = Bench()
    bench.add(0, prompt=2, output=3)
    assert bench.step() == "+0 0:2!"
    bench.add(1, prompt=3, output=2)
    assert bench.step() == "+1 0:1! 1:3!"
    bench.add(2, prompt=1, output=1)
    assert bench.run() == ["+2 0:1. 1:1. 2:1."]


def test_no_more_sequences_than_allowed() -> None:
    bench = Bench(sequences=2)
    for request_id in range(3):
        bench.add(request_id, prompt=2, output=2)
    assert bench.run() == ["+0 +1 0:2! 1:2!", "0:1. 1:1.", "+2 2:2!", "2:1."]


def test_more_requests_than_pages_wait() -> None:
    bench = Bench(pages=3)  # of 4 tokens
    for request_id in range(3):
        bench.add(request_id, prompt=7, output=1)
    assert bench.run() == ["+0 0:7.", "+1 1:7.", "+2 2:7."]


def test_first_come_first_served_though_a_later_one_would_fit() -> None:
    bench = Bench(pages=4)
    bench.add(0, prompt=8, output=2)
    bench.add(1, prompt=12, output=1)
    bench.add(2, prompt=2, output=1)
    assert bench.run() == ["+0 0:8!", "0:1.", "+1 +2 1:12. 2:2."]


def test_the_newest_gives_up_its_pages_and_comes_back() -> None:
    bench = Bench(pages=3)
    bench.add(0, prompt=4, output=5)
    bench.add(1, prompt=3, output=3)
    first = bench.scheduler.waiting[0], bench.scheduler.waiting[1]
    assert bench.run() == [
        "+0 +1 0:4! 1:3!",
        "0:1! 1:1!",  # 0 takes the third page
        "-1 0:1!",  # 1 needs a second one
        "0:1!",
        "0:1.",
        "+1 1:1.",  # four of its five tokens are in a page that nobody has needed
    ]
    assert [sequence.num_preemptions for sequence in first] == [0, 1]


def test_preempted_requests_keep_their_order() -> None:
    bench = Bench(pages=4)
    for request_id in range(5):
        bench.add(request_id, prompt=4, output=2)
    assert bench.step() == "+0 +1 +2 +3 0:4! 1:4! 2:4! 3:4!"
    assert bench.step() == "-3 -2 0:1. 1:1."
    assert [sequence.request_id for sequence in bench.scheduler.waiting] == [2, 3, 4]
    assert bench.run() == ["+2 +3 2:5. 3:5.", "+4 4:4!", "4:1."]


def test_remove_while_waiting_running_or_half_read() -> None:
    bench = Bench(budget=8, sequences=2)
    running, reading, waiting = (bench.add(i, prompt=6, output=9) for i in range(3))
    assert bench.step() == "+0 +1 0:6! 1:2"
    for sequence in (waiting, reading, running):
        bench.scheduler.remove(sequence)
        bench.scheduler.check_integrity()
    assert not bench.scheduler.has_work
    assert bench.scheduler.pool.num_used == 0


def test_higher_priority_goes_first() -> None:
    bench = Bench(sequences=1)
    for request_id, priority in enumerate([0, -1, 0, 1]):
        bench.add(request_id, prompt=2, priority=priority)
    assert bench.run() == ["+3 3:2.", "+0 0:2.", "+2 2:2.", "+1 1:2."]


def test_higher_priority_takes_the_place_of_the_newest_lower() -> None:
    bench = Bench(sequences=2)
    for request_id in (0, 1):
        bench.add(request_id, prompt=4, output=3)
    assert bench.step() == "+0 +1 0:4! 1:4!"
    bench.add(2, prompt=2, output=2, priority=1)
    assert bench.run() == [
        "-1 +2 0:1! 2:2!",
        "2:1. 0:1.",
        "+1 1:1!",  # its first page is still there
        "1:1.",
    ]


def test_higher_priority_takes_pages() -> None:
    bench = Bench(pages=4)
    bench.add(0, prompt=4, output=5)
    bench.add(1, prompt=4, output=5)
    bench.step()
    bench.add(2, prompt=11, output=1, priority=5)
    assert bench.step() == "-1 0:1!", "0 takes a page for its next token"
    assert bench.step() == "-0 +2 2:11."
    assert bench.run(limit=20)[0].startswith("+0 +1")


def test_nobody_is_displaced_in_vain() -> None:
    bench = Bench(pages=4)
    bench.add(0, prompt=8, output=3, priority=2)
    bench.add(1, prompt=4, output=3)
    assert bench.step() == "+0 +1 0:8! 1:4!"
    bench.add(2, prompt=12, output=1, priority=1)  # there are not enough pages below it
    assert bench.step() == "-1 0:1!", "the third page of 0"
    assert bench.step() == "0:1."
    assert bench.run() == ["+2 2:12.", "+1 1:5!", "1:1."]


def test_the_lowest_priority_gives_way() -> None:
    bench = Bench(pages=2)
    bench.add(0, prompt=4, output=2)
    bench.add(1, prompt=4, output=2, priority=1)
    assert bench.run() == ["+1 +0 1:4! 0:4!", "-0 1:1.", "+0 0:5."]


def test_proposed_tokens_run_in_what_is_left_of_half_the_budget() -> None:
    bench = Bench(budget=16)
    first, second = (bench.add(r, prompt=3, output=40) for r in (0, 1))
    bench.step()
    first.proposed, second.proposed = [0] * 5, [1] * 5
    schedule = bench.scheduler.schedule()
    assert [(c.num_tokens, c.num_proposed) for c in schedule.chunks] == [(6, 5), (2, 1)]
    assert all(chunk.is_last for chunk in schedule.chunks)


def test_proposed_tokens_that_could_not_be_kept_are_dropped() -> None:
    bench = Bench(pages=3)
    sequence = bench.add(0, prompt=3, output=6)
    sequence.proposed = [0, 0]  # while it reads its prompt
    assert bench.scheduler.schedule().chunks[0].num_proposed == 0
    sequence.tokens.append(0)
    bench.scheduler.advance(sequence, 3)
    sequence.proposed = [0] * 9
    assert bench.scheduler.schedule().chunks[0].num_proposed == 4, "nine tokens in all"
    assert len(sequence.pages) == 2
    sequence.tokens.append(0)
    bench.scheduler.advance(sequence, 1)  # none of them was right
    assert (len(sequence.pages), sequence.num_cached_tokens) == (2, 4)


def test_nobody_gives_way_to_a_guess() -> None:
    bench = Bench(pages=2)
    sequence = bench.add(0, prompt=3, output=5)
    bench.add(1, prompt=2, output=2)
    bench.step()
    sequence.proposed = [0, 0, 0]
    assert bench.scheduler.schedule().preempted == []
    assert sequence.proposed == []


def test_rows_of_a_prompt() -> None:
    bench = Bench(budget=100)
    sequence = bench.add(0, prompt=70)
    sequence.params = SamplingParams(prompt_logprobs=0)
    chunk = bench.scheduler.schedule().chunks[0]
    assert (chunk.num_tokens, chunk.prompt_rows) == (64, range(64))
    sequence.prompt_logprobs += [TokenLogprob(0, 0.0)] * 64
    bench.scheduler.advance(sequence, 64)
    chunk = bench.scheduler.schedule().chunks[0]
    assert (chunk.num_tokens, chunk.prompt_rows, chunk.is_last) == (6, range(5), True)


def test_idle() -> None:
    assert Bench().step() == ""


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12)), min_size=1, max_size=8),
    pages=st.integers(8, 14),
    sequences=st.integers(1, 5),
    budget=st.integers(5, 17),
)
def test_everyone_finishes(
    requests: list[tuple[int, int]], pages: int, sequences: int, budget: int
) -> None:
    bench = Bench(pages=pages, sequences=sequences, budget=budget)
    for request_id, (prompt, output) in enumerate(requests):
        bench.add(request_id, prompt, output)
    bench.run(limit=2000)
    assert set(bench.left.values()) == {0}
