"""Groups of weights and their plain scales to the scales that round with least squared error.

The plain scale is the smallest that clips no value. Sending a group's largest value to the last
code wastes codes on a value that is rare, and which scale rounds 32 given values best is chance
besides: so a few scales around the plain one are tried. For codes `q` the best scale is that of
least squares, `sum(x q) / sum(q q)`, and it leaves the error `sum(x x) - sum(x q)^2 / sum(q q)`; so
a trial is two sums, and needs no errors. Ranges chosen by squared error are described in M. Nagel
et al., "A White Paper on Neural Network Quantization", 2021, section 3.1. Errors of all weights
count alike: weighing them by their magnitude brought the demo model no nearer to float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]

# How many times the plain scale's inverse is tried: beyond 1 the largest value is clipped, which
# pays where codes are few. More trials, or wider ones, take off little.
TRIALS_OF_BYTES = np.linspace(120 / 127, 130 / 127, 12)
# Groups that are worked on at once: their values and codes fit a core's cache.
SLICE_GROUPS = 4096


@dataclass(frozen=True, slots=True)
class Codes:
    """The integers that a value may become."""

    low: int
    high: int


def search_scales(groups: Floats, plain: Halves, codes: Codes) -> Halves:
    """For each row of `groups` a scale whose squared error is not above that of its `plain` one.

    A group's scale depends on its own values alone.
    """
    found = np.empty_like(plain)
    for first in range(0, len(groups), SLICE_GROUPS):
        part = slice(first, first + SLICE_GROUPS)
        found[part] = _search_slice(groups[part], plain[part], codes)
    return found


def invert_scales(scale: NDArray[np.floating]) -> Floats:
    """1 / scale in float32, and 0 where that isn't finite: such a group rounds to zero."""
    divisor = scale.astype(np.float32)
    inverse = np.divide(1, divisor, out=np.zeros_like(divisor), where=divisor != 0)
    inverse[~np.isfinite(inverse)] = 0
    return inverse


def round_to_codes(values: Floats, inverse: Floats, codes: Codes, out: Floats) -> None:
    """The nearest codes; `inverse` is broadcast."""
    np.multiply(values, inverse, out=out)
    np.rint(out, out=out)
    np.clip(out, codes.low, codes.high, out=out)


def fit_scales(x: Floats, plain: Floats, trials: NDArray[np.float64], codes: Codes) -> Floats:
    """For each column of `x` `[group size, groups]` the scale of the best trial, by least squares.

    A column whose plain scale is zero, or that rounds to zero in all trials, keeps its plain scale.
    """
    rounded = np.empty_like(x)
    best = np.zeros_like(plain)
    scale = plain.copy()
    inverse = invert_scales(plain)
    for trial in trials:
        round_to_codes(x, np.float32(trial) * inverse, codes, rounded)
        products, squares = sum_products(x, rounded), sum_products(rounded, rounded)
        gain = np.divide(products * products, squares, out=np.zeros_like(best), where=squares > 0)
        better = gain > best
        np.copyto(best, gain, where=better)
        np.divide(products, squares, out=scale, where=better)
    return scale


def squared_errors(x: Floats, scale: Floats, codes: Codes) -> Floats:
    """Of each column of `x`, rounded with its scale."""
    error = np.empty_like(x)
    round_to_codes(x, invert_scales(scale), codes, error)
    np.multiply(error, scale, out=error)
    np.subtract(x, error, out=error)
    return sum_products(error, error)


def sum_products(left: Floats, right: Floats) -> Floats:
    """Down the columns, in order: the same sums whatever the number of columns."""
    sums: Floats = np.einsum("ig,ig->g", left, right)
    return sums


def _search_slice(groups: Floats, plain: Halves, codes: Codes) -> Halves:
    x = np.ascontiguousarray(groups.T)  # groups run fastest: sums over a group are vectorized
    wide = plain.astype(np.float32)
    limit = np.finfo(np.float16).max
    fitted = fit_scales(x, wide, TRIALS_OF_BYTES, codes).clip(-limit, limit).astype(np.float16)
    better = squared_errors(x, fitted.astype(np.float32), codes) < squared_errors(x, wide, codes)
    return np.where(better, fitted, plain)
