"""How long a refused request is told to wait."""

from ingot.runtime.pace import Pace


def test_unknown_at_first() -> None:
    pace = Pace()
    assert pace.time_for(100) == 1
    pace.finished(5, is_idle=False)
    assert pace.time_for(100) == 1, "one finish is no interval"


def test_the_mean_interval_within_bounds() -> None:
    pace = Pace()
    for moment in range(10):
        pace.finished(2.0 * moment, is_idle=False)
    assert pace.time_for(5) == 10
    assert pace.time_for(0) == 1
    assert pace.time_for(1000) == 60
    pace.finished(18 + 12, is_idle=False)
    assert pace.time_for(5) == 15, "a tenth of the way to the newest"


def test_idle_time_does_not_count() -> None:
    pace = Pace()
    for moment in (0, 2, 4):
        pace.finished(moment, is_idle=moment == 4)
    pace.finished(1000, is_idle=False)
    assert pace.time_for(5) == 10
