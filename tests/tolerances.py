"""How far a result may be from its reference, by what was computed, each with the reason."""

from typing import NamedTuple

import numpy as np


class Tolerance(NamedTuple):
    """Bounds as `numpy.testing.assert_allclose` takes them."""

    rtol: float
    atol: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "captured": Tolerance(
        rtol=0.0,
        atol=1e-5,
        reason="the same torch operators in float32, attention summed in another order, "
        "in units of the largest logit",
    ),
    "elementwise": Tolerance(
        rtol=1e-6, atol=1e-6, reason="a few float32 operations on values near one"
    ),
    "vector_math": Tolerance(
        rtol=3e-7, atol=1.2e-38, reason="polynomials good to 2 units in the last float32 place"
    ),
    "activation": Tolerance(
        rtol=1e-6,
        atol=1e-6,
        reason="1 + erf and 1 + tanh cancel far below zero, as they do in torch's float32",
    ),
    "norm": Tolerance(
        rtol=2e-6, atol=2e-6, reason="float32 mean and variance over up to 896 values near one"
    ),
    "attention": Tolerance(
        rtol=0.0,
        atol=1e-5,
        reason="scores up to 50 are off by 4e-6, which their exponentials carry into weights; "
        "values near one",
    ),
    "bfloat16 attention": Tolerance(
        rtol=0.0,
        atol=2**-9,
        reason="softmax weights are rounded to 8 bits, off by 2^-9 of themselves at most; they add "
        "up to one, so a sum is off by that share of the largest value it takes in",
    ),
    "float16 attention": Tolerance(
        rtol=0.0, atol=2**-12, reason="as for bfloat16, with weights of 11 bits"
    ),
    "linear of normed inputs": Tolerance(
        rtol=0.0,
        atol=1e-3,
        reason="the last bit of a row's scale may round an input the other way, by 2^-8 of one "
        "product among hundreds, in units of the largest output",
    ),
    "rewrite": Tolerance(
        rtol=1e-5,
        atol=1e-6,
        reason="both are float64, but the constants in graphs are float32 and are matched to 1e-5",
    ),
    "linear": Tolerance(
        rtol=0.0,
        atol=2e-6,
        reason="float32 sums over K < 256 against float64, in units of the largest output; "
        "weights and activations are rounded alike in both",
    ),
}


def assert_close(got: np.ndarray, want: np.ndarray, name: str, scale: float = 1.0) -> None:
    """Compare within the bounds of `name`; `atol` counts in units of `scale`."""
    bound = TOLERANCES[name]
    np.testing.assert_allclose(
        got, want, rtol=bound.rtol, atol=bound.atol * scale, err_msg=bound.reason
    )
