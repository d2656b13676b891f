"""Two traces to figures: what each of them counts, and that nothing not finite hides."""

from __future__ import annotations

import numpy as np
import pytest

from ingot.compile.proof.figures import compare, compare_layers, relative_error
from ingot.compile.proof.traces import Trace

LOGITS = np.array([[1.0, 2.0, -4.0], [0.5, 0.0, 0.25]], np.float32)
HIDDEN = [np.array([[1.0, -2.0], [0.5, 4.0]], np.float32), np.ones((2, 2), np.float32)]


def changed(array: np.ndarray, index: tuple[int, int], value: float) -> np.ndarray:
    copy = array.copy()
    copy[index] = value
    return copy


def test_equal() -> None:
    figures = compare([Trace(LOGITS, HIDDEN)], [Trace(LOGITS, HIDDEN)])
    assert figures == {
        "max_error": 0.0,
        "mean_error": 0.0,
        "kl_mean": 0.0,
        "kl_max": 0.0,
        "top1": 1.0,
        "layer_errors": [0.0, 0.0],
    }


def test_errors_count_in_units_of_the_largest_value() -> None:
    logits = changed(LOGITS, (0, 0), 1.4)
    hidden = [changed(HIDDEN[0], (1, 0), 0.9), HIDDEN[1]]
    figures = compare([Trace(LOGITS, HIDDEN)], [Trace(logits, hidden)])
    assert figures["max_error"] == pytest.approx(0.1)
    assert figures["mean_error"] == pytest.approx(0.1 / 6, rel=1e-2)
    assert figures["layer_errors"] == [pytest.approx(0.1), 0.0]


def test_divergence_and_agreement() -> None:
    logits = changed(LOGITS, (1, 1), 1.0)  # the second position now prefers another token
    figures = compare([Trace(LOGITS, HIDDEN)], [Trace(logits, HIDDEN)])
    p, q = (np.exp(x[1]) / np.exp(x[1]).sum() for x in (LOGITS, logits))
    kl = float((p * np.log(p / q)).sum())
    assert figures["kl_max"] == pytest.approx(kl, rel=1e-2)
    assert figures["kl_mean"] == pytest.approx(kl / 2, rel=1e-2)
    assert figures["top1"] == 0.5


def test_sequences_are_weighed_by_their_tokens() -> None:
    one = Trace(LOGITS[:1], [h[:1] for h in HIDDEN])
    two = Trace(LOGITS[1:], [h[1:] for h in HIDDEN])
    assert compare([one, two], [one, two])["top1"] == 1.0
    whole = compare([Trace(LOGITS, HIDDEN)], [Trace(LOGITS + 0.1, HIDDEN)])
    parts = compare(
        [one, two],
        [Trace(one.logits + 0.1, one.hidden), Trace(two.logits + 0.1, two.hidden)],
    )
    assert whole == parts


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_an_infinite_error(value: float) -> None:
    broken = Trace(changed(LOGITS, (1, 2), value), [changed(HIDDEN[0], (0, 0), value), HIDDEN[1]])
    figures = compare([Trace(LOGITS, HIDDEN)], [broken])
    assert figures["max_error"] == np.inf
    assert figures["layer_errors"] == [np.inf, 0.0]


def test_all_zeros() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert relative_error(zeros, zeros).max() == 0.0
    assert relative_error(zeros, zeros + 1).max() == 1.0


# --- layer by layer ------------------------------------------------------------------------------


def layer_traces(error: float, tokens: int = 20) -> tuple[Trace, Trace]:
    """Eager and compiled of two layers that add 1 each; the second is off by `error` in a token."""
    zeros, ones = (np.full((tokens, 2), value, np.float32) for value in (0.0, 1.0))
    off = changed(2 * ones, (3, 1), 2 + error)
    return Trace(ones, [ones, 2 * ones], zeros), Trace(ones, [ones, off])


def test_a_layer_counts_in_units_of_what_it_adds() -> None:
    eager, found = layer_traces(0.25)
    figures = compare_layers([eager], [found], [found])
    assert figures == {"best": [0.0, 0.0, 0.0], "worst": [0.0, 0.25, 0.0]}


def test_a_layer_is_held_to_what_it_was_given() -> None:
    """The second of two layers gets 9 too much and passes it on: that is no fault of its own."""
    eager, found = layer_traces(0.0)
    wrong = [eager.hidden[0] + 9, eager.hidden[1] + 9]
    given = Trace(found.logits, wrong)
    by_given = Trace(eager.logits, [eager.hidden[0], wrong[1]], eager.embedded)
    figures = compare_layers([by_given], [given], [given])
    assert figures["worst"] == [9.0, 0.0, 0.0]


def test_the_best_quarter_is_off_only_if_most_tokens_are() -> None:
    eager, found = layer_traces(0.25)
    found.hidden[1][:14] += 0.5
    assert compare_layers([eager], [found], [found])["best"][1] == 0.0
    found.hidden[1][:] = eager.hidden[1] + 0.5
    assert compare_layers([eager], [found], [found])["best"][1] == 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_layer_that_is_not_finite_is_infinitely_off(value: float) -> None:
    eager, found = layer_traces(value)
    assert compare_layers([eager], [found], [found])["worst"] == [0.0, np.inf, 0.0]
