"""Lengths from text: exact bounds, the right middle, and a sentence for what makes no sense."""

import numpy as np
import pytest

from ingot.bench.serve.lengths import parse_lengths
from ingot.errors import UsageError


@pytest.mark.parametrize(
    ("text", "low", "median", "high"),
    [
        ("7", 7, 7, 7),
        ("fixed:1", 1, 1, 1),
        ("uniform:3:9", 3, 6, 9),
        ("lognormal:100:0.5:150", 1, 100, 150),
        ("lognormal:10:1", 1, 10, 80),
    ],
)
def test_lengths_lie_where_they_should(text: str, low: int, median: float, high: int) -> None:
    rng = np.random.default_rng(0)
    lengths = parse_lengths(text)
    drawn = [lengths.draw(rng) for _ in range(4000)]
    assert low <= min(drawn) and max(drawn) == high
    assert np.median(drawn) == pytest.approx(median, rel=0.06)
    assert (lengths.low, lengths.high) == (low, high)


@pytest.mark.parametrize(
    "text",
    ["", "0", "-3", "1.5", "many", "uniform:9:3", "uniform:3", "lognormal:5", "lognormal:9:1:3",
     "fixed:1:2", "normal:3:1", "lognormal:nan:1", "fixed:inf"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="fixed:N, uniform:LOW:HIGH or lognormal"):
        parse_lengths(text)
