"""How far a result may be from its reference, by what was computed, each with the reason."""

from typing import NamedTuple

import numpy as np


class Tolerance(NamedTuple):
    """Bounds as `numpy.testing.assert_allclose` takes them."""

    rtol: float
    atol: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
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
