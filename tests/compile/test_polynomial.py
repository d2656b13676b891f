"""Extents as sums of products of dimensions."""

import pytest
from tvm import relax, tirx

from ingot.compile.polynomial import added, multiplied, num_bytes, num_elements, polynomial_of

N, B = tirx.Var("n", "int64"), tirx.Var("b", "int64")
SYMBOLS = {N: "n", B: "b"}


@pytest.mark.parametrize(
    ("extent", "expected"),
    [
        (7, {"1": 7}),
        (tirx.IntImm("int64", 7), {"1": 7}),
        (N, {"n": 1}),
        (N * 4 + 3, {"1": 3, "n": 4}),
        ((N + 1) * B, {"b": 1, "b*n": 1}),
    ],
)
def test_an_extent(extent: object, expected: dict[str, int]) -> None:
    assert polynomial_of(extent, SYMBOLS) == expected


def test_a_dimension_that_nobody_named() -> None:
    with pytest.raises(AssertionError, match="unknown dimension q"):
        polynomial_of(tirx.Var("q", "int64"), SYMBOLS)


def test_a_tensor() -> None:
    ty = relax.TensorType([N, 2, N + 1], "float16")
    assert num_elements(ty, SYMBOLS) == {"n": 2, "n*n": 2}
    assert num_bytes(ty, SYMBOLS) == {"n": 4, "n*n": 4}


def test_sums_and_products() -> None:
    assert added([{"n": 2, "1": 1}, {"n": -2, "b": 3}]) == {"1": 1, "b": 3}
    assert multiplied({"n": 2, "1": 1}, {"b": 3}) == {"b": 3, "b*n": 6}
