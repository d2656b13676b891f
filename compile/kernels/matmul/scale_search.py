"""Groups of weights and their plain scales to the scales that round with least squared error.

Sending a group's largest value to the last code wastes codes on a value that is rare, and which
scale rounds 32 given values best is chance besides: so a few scales around the plain one are
tried. For codes `q` the best scale is that of least squares, `sum(x q) / sum(q q)`, and it leaves
the error `sum(x x) - sum(x q)^2 / sum(q q)`; so a trial is two sums, and needs no errors. The
winner is fitted once more (codes for the scale, a scale for the codes, as in S. Lloyd, "Least
squares quantization in PCM", 1982), rounded to float16, and kept only where its error is below
the plain scale's. Ranges chosen by squared error are described in M. Nagel et al., "A White
Paper on Neural Network Quantization", 2021, section 3.1. Errors of all weights count alike:
weighing them by their magnitude brought the demo model no nearer to float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]

# By bits: the codes that a group's value of largest magnitude is sent to, in turn. Beyond the last
# code it is clipped; at 4 bits -8 is the code that +8 lacks, hence the sign. More trials, or wider
# ones, take off little.
LARGEST_CODES = {4: np.linspace(-7, -10, 9), 8: np.linspace(120, 130, 12)}
# Groups that are worked on at once: their values and codes fit a core's cache.
SLICE_GROUPS = 4096


def search_scales(groups: Floats, plain: Halves, bits: int, low: int, high: int) -> Halves:
    """For each row of `groups` a scale whose squared error is not above that of its `plain` one.

    A group's scale depends on its own values alone.
    """
    found = np.empty_like(plain)
    for first in range(0, len(groups), SLICE_GROUPS):
        part = slice(first, first + SLICE_GROUPS)
        found[part] = _search_slice(groups[part], plain[part], bits, low, high)
    return found


def invert_scales(scale: NDArray[np.floating]) -> Floats:
    """1 / scale in float32, and 0 where that isn't finite: such a group rounds to zero."""
    divisor = scale.astype(np.float32)
    inverse = np.divide(1, divisor, out=np.zeros_like(divisor), where=divisor != 0)
    inverse[~np.isfinite(inverse)] = 0
    return inverse


def round_to_codes(values: Floats, inverse: Floats, low: int, high: int, out: Floats) -> None:
    """The nearest codes within `low..high`; `inverse` is broadcast."""
    np.multiply(values, inverse, out=out)
    np.rint(out, out=out)
    np.clip(out, low, high, out=out)


def _search_slice(groups: Floats, plain: Halves, bits: int, low: int, high: int) -> Halves:
    x = np.ascontiguousarray(groups.T)  # groups run fastest: sums over a group are vectorized
    codes = np.empty_like(x)

    def fit(inverse: Floats) -> tuple[Floats, Floats]:
        """The sums of x q and of q q for the codes that `inverse` gives."""
        round_to_codes(x, inverse, low, high, codes)
        return _sum_products(x, codes), _sum_products(codes, codes)

    def squared_error(scale: Halves) -> Floats:
        round_to_codes(x, invert_scales(scale), low, high, codes)
        np.multiply(codes, scale.astype(np.float32), out=codes)
        np.subtract(x, codes, out=codes)
        return _sum_products(codes, codes)

    highest, lowest = x.max(0), x.min(0)
    largest = np.where(highest > -lowest, highest, lowest)
    largest[plain == 0] = 1  # nothing to search: all codes become zero
    best = np.zeros_like(largest)
    scale = plain.astype(np.float32)
    for code in LARGEST_CODES[bits]:
        products, squares = fit(np.float32(code) / largest)
        gain = np.divide(products * products, squares, out=np.zeros_like(best), where=squares > 0)
        better = gain > best
        np.copyto(best, gain, where=better)
        np.divide(products, squares, out=scale, where=better)
    products, squares = fit(invert_scales(scale))
    np.divide(products, squares, out=scale, where=squares > 0)
    limit = np.finfo(np.float16).max
    fitted = np.clip(scale, -limit, limit).astype(np.float16)
    return np.where(squared_error(fitted) < squared_error(plain), fitted, plain)


def _sum_products(left: Floats, right: Floats) -> Floats:
    """Down the columns, in order: the same sums whatever the number of columns."""
    sums: Floats = np.einsum("ig,ig->g", left, right)
    return sums
