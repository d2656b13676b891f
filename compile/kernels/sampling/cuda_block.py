"""A block of the sampling kernels: `SPLIT` logits of a row, and what they are compared by.

Two things make sums over many blocks come out alike every time. A weight is an integer, its
exponential in units of 2^-39: integers may be added in any order. A logit's key is its bits as an
unsigned integer of the same order, which a threshold is found in digit by digit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import BlockReducer, barrier, let, shared
from ingot.compile.kernels.tensor_core import pointer
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index, otherwise_if

THREADS = 256
PER_THREAD = 16  # loaded before the first is used: a thread waits for memory once
SPLIT = THREADS * PER_THREAD
# Halves of 20 bits of up to SPLIT weights add up within 32 bits: the largest weight is 2^39.
WEIGHT_BITS, HALF_BITS = 39, 20


@dataclass(frozen=True, slots=True)
class Row:
    """A row's settings, and its largest logit."""

    temperature: Expr
    largest: Expr

    def weight(self, x: Expr) -> Expr:
        """That of the likeliest token is 1."""
        return let(tirx.exp((x - self.largest) / self.temperature))


def as_integer(weight: Expr) -> Expr:
    scaled = weight * tirx.const(float(1 << WEIGHT_BITS), "float32")
    return let(tirx.Cast("int64", scaled), "int64")


def key_of(x: Expr) -> Expr:
    """The bits of a float as uint32 in the floats' order; both zeros are the same."""
    zero, sign = tirx.const(0.0, "float32"), tirx.const(1 << 31, "uint32")
    bits = let(tirx.reinterpret("uint32", tirx.Select(x == zero, zero, x)), "uint32")
    is_negative = bits >= sign
    return let(
        tirx.Select(is_negative, bits ^ tirx.const(0xFFFFFFFF, "uint32"), bits ^ sign), "uint32"
    )


class SplitBlock:
    """Where a block is, and what its threads do together."""

    def __init__(self, size: int, split: Expr, row: Expr, thread: Expr) -> None:
        self.size, self.split, self.row, self.thread = size, split, row, thread
        self.reducer = BlockReducer(thread, THREADS)
        self._scan = shared((THREADS,), "int64")
        self._flag = shared((1,), "int32")

    def values(self, logits: Buffer) -> list[tuple[Expr, Expr]]:
        """This thread's logits, each with its number in the row, which may be beyond the end."""
        lowest = tirx.const(float("-inf"), "float32")
        places = [
            let(self.split * SPLIT + part * THREADS + self.thread, "int64")
            for part in range(PER_THREAD)
        ]
        return [
            (i, let(tirx.if_then_else(i < self.size, logits[self.row, i], lowest))) for i in places
        ]

    def when_last(self, counters: Buffer, number: int, emit: Callable[[], None]) -> None:
        """Run what follows in the last block of the row to come here; it sees what all wrote."""
        barrier()  # the whole block's additions are made
        with otherwise_if(self.thread == 0):
            counter = pointer(counters, self.row, index(number))
            splits = tirx.const(num_splits(self.size), "int32")
            T.buffer_store(
                self._flag, T.call_extern("int32", "ingot_is_last", counter, splits), [0]
            )
        barrier()
        is_last = let(self._flag[0], "int32")
        with otherwise_if(is_last == 1):
            emit()

    def sum_before(self, own: Expr) -> Expr:
        """The sum of `own` over the threads before this one."""
        scan, thread, distance = self._scan, self.thread, 1
        barrier()  # the last use is over
        T.buffer_store(scan, own, [thread])
        while distance < THREADS:
            barrier()
            other = let(scan[tirx.Max(thread - distance, index(0))], "int64")
            total = let(scan[thread] + tirx.Select(thread >= distance, other, index(0)), "int64")
            barrier()
            T.buffer_store(scan, total, [thread])
            distance *= 2
        return let(scan[thread] - own, "int64")


def num_splits(size: int) -> int:
    """The blocks of a row."""
    return -(-size // SPLIT)
