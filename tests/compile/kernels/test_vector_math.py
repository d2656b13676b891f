"""exp, tanh, erf and sigmoid on vectors, against float64, over all magnitudes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ingot.compile.kernels import vector_math
from ingot.compile.kernels.vector_ir import T, count, index, kernel, load, store
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_kernel, on_cpus
from tests.tolerances import assert_close

WIDTH = 64
EXACT: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "sigmoid": lambda x: np.exp(-np.logaddexp(0.0, -x)),
}


def run(name: str, target: Target, values: np.ndarray) -> np.ndarray:
    """The function over `values`, in vectors of the target's lanes."""
    n, lanes = count("n"), target.float32_lanes
    with kernel(name) as k:
        x, out = k.argument("x", (n, WIDTH)), k.argument("out", (n, WIDTH))
        with T.serial(n) as row:
            for offset in range(0, WIDTH, lanes):
                value = getattr(vector_math, name)(load(x, (row, index(offset)), lanes), lanes)
                store(out, (row, index(offset)), value, lanes)
    padded = np.resize(values.astype(np.float32), (-(-len(values) // WIDTH), WIDTH))
    out = compile_kernel(k.function, target)(padded, np.zeros_like(padded))[-1]
    return out.ravel()[: len(values)]


@on_cpus
@pytest.mark.parametrize("name", sorted(EXACT))
def test_near_float64(name: str, target: Target) -> None:
    tiny = np.geomspace(1e-30, 1, 3001)
    x = np.concatenate([np.linspace(-87, 88, 20011), np.linspace(-4, 4, 20011), tiny, -tiny, [0.0]])
    x = x.astype(np.float32)
    assert_close(run(name, target, x), EXACT[name](x.astype(np.float64)), "vector_math")


@on_cpus
@pytest.mark.parametrize("name", sorted(EXACT))
def test_keeps_not_a_number(name: str, target: Target) -> None:
    assert np.isnan(run(name, target, np.array([np.nan]))).all()


@on_cpus
def test_special_values(target: Target) -> None:
    inf = np.inf
    x = np.array([0.0, -inf, -88.0, -3e38, 90.0, inf])
    assert run("exp", target, x).tolist() == [1.0, 0.0, 0.0, 0.0, inf, inf]
    assert run("tanh", target, np.array([-inf, inf, 0.0])).tolist() == [-1.0, 1.0, 0.0]
    assert run("erf", target, np.array([-inf, inf, 0.0])).tolist() == [-1.0, 1.0, 0.0]
    assert run("sigmoid", target, np.array([-inf, inf, 0.0])).tolist() == [0.0, 1.0, 0.5]
