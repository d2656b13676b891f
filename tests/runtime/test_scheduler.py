"""Scheduling as lists of events: what each step runs, admits and preempts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.runtime.kv import PagePool
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

    def add(self, request_id: int, prompt: int, output: int = 1) -> Sequence:
        sequence = Sequence(
            request_id=request_id,
            tokens=[request_id] * prompt,
            num_prompt_tokens=prompt,
            params=SamplingParams(),
            max_total_tokens=prompt + output,
            text=TextStream(lambda tokens: ""),
            draw_key=0,
            end_token_ids=frozenset(),
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
                sequence.append(sequence.request_id)
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
