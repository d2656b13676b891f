"""An observer's two readings of the clock become times, and what they cost is known."""

import numpy as np
import pytest

from ingot.bench.profile.observer import Observer, call_overhead


def test_an_observer_gives_means_of_the_steps_that_are_kept() -> None:
    first, other = [0, 900, 900, 1800], [0, 50, 50, 900]
    clock = iter([*first, 10, 20, 30, 70, *other, 100, 130, 140, 200])
    observer = Observer(lambda: next(clock))
    for _ in range(4):
        observer.start_step()
        for name, args in (("a", (1,)), ("b", (1, 2))):
            observer(None, name, True, None, *args)
            observer(None, name, False, None, *args)
    calls = observer.calls(np.array([0, 2]))
    seconds = [call.seconds for call in calls]
    assert [call.name for call in calls] == ["a", "b"]
    assert seconds == [pytest.approx(20e-9), pytest.approx(50e-9)]
    assert observer.arguments == {"a": (1,), "b": (1, 2)}


def test_an_observed_call_takes_some_time() -> None:
    assert 0 < call_overhead((1, "two", None)) < 1e-3
