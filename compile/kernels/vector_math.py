"""Turns exp, tanh, erf and sigmoid into polynomials on vectors: LLVM won't vectorise libm's.

Coefficients are minimax fits in float64 (reweighted least squares on Chebyshev points), rounded to
float32. Measured against float64 over their whole range by `tests/compile/kernels/
test_vector_math.py`: at most 2 units in the last place, or 1.2e-7 absolute where erf nears one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx

from ingot.compile.kernels.vector_ir import Expr, dtype_of, fma, let, splat

LOWEST = -3.0e38  # stands for "no score yet": finite, so that LOWEST - LOWEST is zero, not NaN

# (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2
EXP = (0.49999994, 0.1666652, 0.041668393, 0.008368781, 0.0013814466)
# (tanh(x)/x - 1) / x^2 in x^2, on |x| <= 0.65
TANH = (-0.3333326, 0.13330831, -0.05368802, 0.020469414, -0.0055151577)
# erf(x)/x in x^2, on |x| <= 1
ERF = (
    1.1283791065216064,
    -0.3761262595653534,
    0.1128358542919159,
    -0.026853812858462334,
    0.005188327748328447,
    -0.0008010193705558777,
    7.853860006434843e-05,
)
# log(1 - erf(x)) on [1, 4]
LOG_ERFC = (
    -0.00031246276921592653,
    -1.1272022724151611,
    -0.6379649639129639,
    -0.1032562404870987,
    0.021906495094299316,
    -0.002964010927826166,
    0.00018797218217514455,
)

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.693359375  # 9 significant bits: n * LN2_HIGH is exact
LN2_LOW = math.log(2) - LN2_HIGH
SMALLEST_EXPONENT = -87.33  # below it exp is less than the smallest normal float32
LARGEST_EXPONENT = 88.37  # above it 2^n leaves float32: the result is infinite
ROUNDING = 12582912.0  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits


def polynomial(x: Expr, coefficients: Sequence[float], lanes: int) -> Expr:
    """Horner's rule, lowest coefficient first."""
    value = splat(coefficients[-1], lanes)
    for coefficient in reversed(coefficients[:-1]):
        value = fma(value, x, splat(coefficient, lanes), lanes)
    return value


def _at_most(x: Expr, limit: Expr) -> Expr:
    """min(x, limit) that keeps not-a-number."""
    return tirx.Select(x > limit, limit, x)


def exp(x: Expr, lanes: int) -> Expr:
    """e^x; exactly 1 at 0, 0 below -87.33 (and at -inf), infinite above 88.37."""
    x = let(x, lanes)
    low, high = splat(SMALLEST_EXPONENT, lanes), splat(LARGEST_EXPONENT + 0.2, lanes)
    clamped = let(_at_most(x, high), lanes)  # what comes of less than `low` is not used
    shifted = let(fma(clamped, splat(LOG2_E, lanes), splat(ROUNDING, lanes), lanes), lanes)
    n = let(shifted - splat(ROUNDING, lanes), lanes)
    r = fma(n, splat(-LN2_HIGH, lanes), clamped, lanes)
    r = let(fma(n, splat(-LN2_LOW, lanes), r, lanes), lanes)
    mantissa = fma(polynomial(r, EXP, lanes), r * r, r, lanes) + splat(1.0, lanes)
    # The integer n sits in the low bits of `shifted`; moved to the exponent it is 2^n.
    bits = tirx.reinterpret(dtype_of("uint32", lanes), shifted)
    bits = (bits << splat(23, lanes, "uint32")) + splat(0x3F800000, lanes, "uint32")
    value = mantissa * tirx.reinterpret(dtype_of("float32", lanes), bits)
    return let(tirx.Select(x < low, splat(0.0, lanes), value), lanes)


def sigmoid(x: Expr, lanes: int) -> Expr:
    return splat(1.0, lanes) / (splat(1.0, lanes) + exp(splat(0.0, lanes) - x, lanes))


def magnitude(x: Expr, lanes: int) -> Expr:
    bits = tirx.reinterpret(dtype_of("uint32", lanes), x) & splat(0x7FFFFFFF, lanes, "uint32")
    return tirx.reinterpret(dtype_of("float32", lanes), bits)


def with_sign_of(x: Expr, value: Expr, lanes: int) -> Expr:
    """`value` (not negative) with the sign of `x`."""
    sign = tirx.reinterpret(dtype_of("uint32", lanes), x) & splat(0x80000000, lanes, "uint32")
    bits = tirx.reinterpret(dtype_of("uint32", lanes), value) | sign
    return tirx.reinterpret(dtype_of("float32", lanes), bits)


def tanh(x: Expr, lanes: int) -> Expr:
    x = let(x, lanes)
    size = let(magnitude(x, lanes), lanes)
    square = let(x * x, lanes)
    near = fma(polynomial(square, TANH, lanes), square * x, x, lanes)
    one = splat(1.0, lanes)
    far = one - splat(2.0, lanes) / (exp(size + size, lanes) + one)
    return let(tirx.Select(size < splat(0.65, lanes), near, with_sign_of(x, far, lanes)), lanes)


def erf(x: Expr, lanes: int) -> Expr:
    x = let(x, lanes)
    size = let(_at_most(magnitude(x, lanes), splat(4.0, lanes)), lanes)  # erf(4) rounds to 1
    near = x * polynomial(let(x * x, lanes), ERF, lanes)
    far = splat(1.0, lanes) - exp(polynomial(size, LOG_ERFC, lanes), lanes)
    return let(tirx.Select(size < splat(1.0, lanes), near, with_sign_of(x, far, lanes)), lanes)
