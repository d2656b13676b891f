"""What the kernels of a step do, as data: amounts of bytes and operations in the step's dimensions.

The compiler knows them from the graph and writes them into the manifest; `ingot profile` sets
times beside them, and `ingot inspect` forecasts from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from ingot.runtime.artifact.record import Record, at_least

Count = Annotated[int, at_least(0)]
Amount = dict[str, Count]
"""A sum of products: `{"1": 64, "n": 4096, "b*p": 4}` is 64 + 4096 n + 4 b p.

n tokens of b sequences, p pages of the widest, m rows of logits, as in the step's contract.
`context` is how many cached tokens are read, summed over the sequences, and `pairs` how many
(query, key) pairs there are, both within the layer's window.
"""

Arithmetic = Literal["float32", "bfloat16", "int8"]


class WorkRecord(Record):
    """One kernel in one place of the model: the calls of a step that are alike."""

    kernel: str  # its name in model.so
    op: str  # the operator, or `core` for what no kernel of ours took in
    place: str  # where in the model: the weight that it reads without the layer's number, or the op
    label: str = ""  # what distinguishes it: shapes and formats
    calls: tuple[Count, ...]  # which of the step's kernel calls these are, from 0
    weight_bytes: Count = 0  # of one call, read whole
    activation_bytes: Amount = {}  # of one call: read and written once
    kv_bytes: Amount = {}
    operations: Amount = {}  # multiplications and additions
    arithmetic: Arithmetic = "float32"  # what multiplies
    window: Count = 0  # an attention layer's reach in tokens, 0 for all
    parallel_regions: Count = 0  # how often a call wakes the threads, whatever its size
    is_vectorised: bool = True


def evaluate(amount: Mapping[str, int], dimensions: Mapping[str, int]) -> int:
    """The value of an amount where every dimension has one."""
    total = 0
    for term, coefficient in amount.items():
        product = coefficient
        for factor in term.split("*"):
            product *= 1 if factor == "1" else dimensions[factor]
        total += product
    return total


def symbols_of(amount: Mapping[str, int]) -> tuple[str, ...]:
    """The dimensions that an amount depends on, in order."""
    return tuple(sorted({factor for term in amount for factor in term.split("*")} - {"1"}))
