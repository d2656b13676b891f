import pytest

from ingot.bench.backends.base import GenerationTimes
from ingot.bench.prompts import Case
from ingot.bench.summary import compare_texts, summarize
from ingot.bench.worker import Measured, Outcome

CASE = Case(10, 2)


def measured(tokens: tuple[tuple[int, ...], ...], seconds: float, load_s: float = 1.0) -> Outcome:
    times = GenerationTimes(seconds, (seconds, 3 * seconds), tokens)
    return Outcome(
        measured=Measured(load_s, load_s + 1, 0.5, 1000, None, {"mode": "x"}, ((times,),))
    )


def test_rates_come_from_the_times() -> None:
    turns = [measured(((1, 2, 3), (4, 5, 6)), 0.1), measured(((1, 2, 3), (4, 5, 6)), 0.1, 3.0)]
    backend = summarize("x", Outcome(prepare_s=2.0), turns, turns, [CASE])
    assert backend.status == "measured"
    assert backend.load_s is not None and backend.load_s.median == 2.0
    assert backend.peak_memory_bytes == 1000
    assert backend.peak_device_memory_bytes is None
    (found,) = backend.cases
    assert found.tpot_s.median == pytest.approx(0.2)  # the mean of 0.1 and 0.3
    assert found.prefill_tokens_per_s.median == pytest.approx(2 * 10 / 0.1)
    assert found.decode_tokens_per_s.median == pytest.approx(2 / 0.2)
    assert found.repeatable
    assert found.agreement is not None and found.agreement.equal_tokens_ratio == 1.0
    assert [sample.turn for sample in found.samples] == [1, 2]


def test_other_tokens_are_counted_up_to_the_first_difference() -> None:
    agreement = compare_texts([(1, 2, 3, 4), (5, 9, 7, 8)], [(1, 2, 3, 4), (5, 6, 7, 8)])
    assert (agreement.num_equal_texts, agreement.num_texts) == (1, 2)
    assert agreement.equal_tokens_ratio == 5 / 8


def test_tokens_that_change_between_turns_are_told() -> None:
    turns = [measured(((1, 2, 3), (4, 5, 6)), 0.1), measured(((1, 2, 3), (4, 5, 7)), 0.1)]
    (found,) = summarize("x", Outcome(), turns, [], [CASE]).cases
    assert not found.repeatable
    assert found.agreement is None  # eager wasn't run


def test_a_reason_takes_the_place_of_figures() -> None:
    gone = summarize("x", Outcome(unavailable="not installed"), [], [], [CASE])
    assert (gone.status, gone.reason, gone.cases) == ("unavailable", "not installed", ())
    turns = [measured(((1, 2, 3), (4, 5, 6)), 0.1), Outcome(failed="it broke")]
    failed = summarize("x", Outcome(prepare_s=1.0), turns, [], [CASE])
    assert (failed.status, failed.reason, failed.cases) == ("failed", "it broke", ())
