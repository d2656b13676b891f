"""Extents of tensors to polynomials in a step's dimensions, as the manifest writes amounts.

`{"1": 64, "n": 4096, "b*p": 4}` is 64 + 4096 n + 4 b p.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import tvm
from tvm import tirx

Polynomial = dict[str, int]

Place = tuple[int, int]
"""Where a dimension is seen: which of a function's arguments, which of its axes."""


def named_dimensions(arguments: Sequence[Any], places: Mapping[str, Place]) -> dict[Any, str]:
    """The variable of each dimension that `places` names, with its name."""
    shapes = [argument.ty.shape for argument in arguments]
    return {shapes[number].values[axis]: name for name, (number, axis) in places.items()}


def polynomial_of(extent: Any, symbols: Mapping[Any, str]) -> Polynomial:
    """An extent made of constants and variables, by sums and products."""
    if isinstance(extent, int):
        return {"1": extent}
    if isinstance(extent, tirx.IntImm):
        return {"1": int(extent.value)}
    if isinstance(extent, tirx.Var):
        found = next((name for var, name in symbols.items() if var.same_as(extent)), None)
        assert found is not None, f"unknown dimension {extent}"
        return {found: 1}
    first, second = polynomial_of(extent.a, symbols), polynomial_of(extent.b, symbols)
    if isinstance(extent, tirx.Mul):
        return multiplied(first, second)
    assert isinstance(extent, tirx.Add), extent
    return added([first, second])


def num_elements(ty: Any, symbols: Mapping[Any, str]) -> Polynomial:
    """How many elements a tensor of this Relax type has."""
    extents = (polynomial_of(extent, symbols) for extent in ty.shape.values)
    return reduce(multiplied, extents, {"1": 1})


def num_bytes(ty: Any, symbols: Mapping[Any, str]) -> Polynomial:
    """How many bytes they take."""
    item_bytes = (tvm.DataType(str(ty.dtype)).bits + 7) // 8
    return scaled(num_elements(ty, symbols), item_bytes)


def added(terms: Iterable[Polynomial]) -> Polynomial:
    total: Polynomial = {}
    for polynomial in terms:
        for name, coefficient in polynomial.items():
            total[name] = total.get(name, 0) + coefficient
    return dict(sorted((name, c) for name, c in total.items() if c))


def scaled(polynomial: Polynomial, factor: int) -> Polynomial:
    return {name: factor * c for name, c in polynomial.items() if factor}


def multiplied(first: Polynomial, second: Polynomial) -> Polynomial:
    total: Polynomial = {}
    for a, x in first.items():
        for b, y in second.items():
            factors = sorted(f for f in (*a.split("*"), *b.split("*")) if f != "1")
            name = "*".join(factors) or "1"
            total[name] = total.get(name, 0) + x * y
    return total
