"""Filters to a threshold on a row's logits: the k-th largest, or the one that top-p ends at.

A key is found from its highest digit down. Of each digit the blocks make a histogram of numbers and
weights, the last block to end walks it from the top and finds the bin that holds the key; what lies
above is known then, and only what lies in the bin is looked at for the next digit. Top-k's digits
come first, since top-p is meant of what they leave; the histogram of the first digit serves both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import Local, barrier, dynamic_shared, let, strided
from ingot.compile.kernels.sampling.cuda_block import (
    HALF_BITS,
    THREADS,
    Row,
    SplitBlock,
    as_integer,
    key_of,
    num_splits,
)
from ingot.compile.kernels.tensor_core import emit, pointer
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index, otherwise_if

DIGITS = ((21, 11), (10, 11), (0, 10))  # (shift, bits) of a key, the highest first
BINS = 1 << 11
BINS_PER_THREAD = BINS // THREADS
FIRST, NEXT = 0, 1  # the histograms: the first digit's stays, those of the others take turns

# A row's fields in `Search.state`.
STAGE, PREFIX, GOAL, ABOVE, FLOOR = range(5)
NUM_FIELDS = 5
IDLE, TOP_K, TOP_P = range(3)  # values of STAGE: which threshold is being looked for


@dataclass(frozen=True, slots=True)
class Search:
    """Device memory of the searches of all rows.

    `state [m, fields]`: the stage; the digits found so far; what of the goal, a number or a weight,
    lies below what they exclude; the weight that top-k keeps; the key below which nothing is drawn.
    """

    state: Buffer
    numbers: Buffer  # [m, 2 histograms, bins]
    weights: Buffer

    @staticmethod
    def allocate(m: Expr) -> Search:
        return Search(
            T.alloc_buffer((m, NUM_FIELDS), "int64"),
            T.alloc_buffer((m, 2, BINS), "int64"),
            T.alloc_buffer((m, 2, BINS), "int64"),
        )

    def clear(self, block: SplitBlock) -> None:
        """The blocks of a row share the work."""
        threads = num_splits(block.size) * THREADS
        everyone = block.split * THREADS + block.thread
        with strided(everyone, BINS, threads) as i:
            for buffer in (self.numbers, self.weights):
                for histogram in (FIRST, NEXT):
                    T.buffer_store(buffer, index(0), [block.row, index(histogram), i])
        with otherwise_if(everyone < NUM_FIELDS):
            T.buffer_store(self.state, index(0), [block.row, everyone])

    def get(self, row: Expr, field: int) -> Expr:
        return let(self.state[row, index(field)], "int64")


class DigitBlock:
    """Emits one digit's histogram and what its last block does with it."""

    def __init__(self, block: SplitBlock, search: Search, digit: int) -> None:
        self.block, self.search = block, search
        self.shift, self.bits = DIGITS[digit]
        self.histogram = NEXT if digit else FIRST
        self.bins = dynamic_shared(3 * BINS, "uint32")

    def count(self, values: list[tuple[Expr, Expr]], row: Row) -> None:
        """Add the logits that the digits so far leave to the row's histogram."""
        block, end = self.block, self.shift + self.bits
        with strided(block.thread, 3 * BINS, THREADS) as i:
            T.buffer_store(self.bins, tirx.const(0, "uint32"), [i])
        barrier()
        known, floor = (self.search.get(block.row, field) for field in (PREFIX, FLOOR))
        for i, x in values:
            key = let(index(key_of(x)), "int64")
            is_meant = tirx.And(i < block.size, key >= floor)
            if self.histogram == NEXT:
                is_meant = tirx.And(is_meant, (key >> index(end)) == (known >> index(end)))
            with otherwise_if(is_meant):
                place = (key >> index(self.shift)) & index((1 << self.bits) - 1)
                self._add(let(tirx.Cast("int32", place), "int32"), as_integer(row.weight(x)))
        barrier()
        with strided(block.thread, BINS, THREADS) as i:
            number = let(self.bins[i], "uint32")
            with otherwise_if(number > tirx.const(0, "uint32")):
                low, high = (index(self.bins[i + part * BINS]) for part in (1, 2))
                where = (block.row, index(self.histogram), i)
                emit("add_int64", pointer(self.search.numbers, *where), index(number))
                weight = let((high << index(HALF_BITS)) + low, "int64")
                emit("add_int64", pointer(self.search.weights, *where), weight)

    def _add(self, place: Expr, weight: Expr) -> None:
        """Halves of a weight by themselves: a GPU adds 32 bits at once in shared memory."""
        low = tirx.Cast("uint32", weight & index((1 << HALF_BITS) - 1))
        high = tirx.Cast("uint32", weight >> index(HALF_BITS))
        for part, value in enumerate((tirx.const(1, "uint32"), low, high)):
            emit("add_shared", pointer(self.bins, place + part * BINS), value)


class BinSearch:
    """Emits what the last block of a digit does: the steps of one row's search."""

    def __init__(self, block: SplitBlock, search: Search) -> None:
        self.block, self.search = block, search

    def set(self, field: int, value: Expr) -> None:
        """Change the row's state, for all threads to see."""
        barrier()
        with otherwise_if(self.block.thread == 0):
            T.buffer_store(self.search.state, value, [self.block.row, index(field)])
        barrier()

    def get(self, field: int) -> Expr:
        return self.search.get(self.block.row, field)

    def start_top_k(self, k: Expr) -> None:
        self.set(STAGE, index(TOP_K))
        self.set(GOAL, k)
        self.choose(0, by_weight=False)

    def start_top_p(self, top_p: Expr, total: Expr) -> None:
        wide = tirx.Cast("float64", top_p) * tirx.Cast("float64", total)
        self.set(STAGE, index(TOP_P))
        self.set(GOAL, tirx.Max(tirx.Cast("int64", tirx.ceil(wide)), index(1)))
        self.set(PREFIX, index(0))
        self.choose(0, by_weight=True)

    def total(self) -> Expr:
        """The weight of the whole row."""
        return let(self._sum(self._own_bins(FIRST), lambda bin_: bin_ >= 0), "int64")

    def choose(self, digit: int, *, by_weight: bool) -> None:
        """Find the digit's bin in which the goal is reached, and note what is above it."""
        block, (shift, _) = self.block, DIGITS[digit]
        goal, prefix = self.get(GOAL), self.get(PREFIX)
        bins = self._own_bins(NEXT if digit else FIRST)
        own = Local(0, "int64")
        for bin_ in bins:
            own.set(own.value + bin_[1 + by_weight])
        passed = block.sum_before(own.value)
        for bin_ in bins:
            reached = let(passed + bin_[1 + by_weight], "int64")
            with otherwise_if(tirx.And(passed < goal, reached >= goal)):
                found = prefix | (bin_[0] << index(shift))
                T.buffer_store(self.search.state, found, [block.row, index(PREFIX)])
                T.buffer_store(self.search.state, goal - passed, [block.row, index(GOAL)])
            passed = reached
        barrier()
        if not by_weight:
            chosen = let(self.get(PREFIX) - prefix >> index(shift), "int64")
            is_last = digit == len(DIGITS) - 1
            above = self._sum(bins, lambda bin_: bin_ >= chosen if is_last else bin_ > chosen)
            self.set(ABOVE, let(self.get(ABOVE) + above, "int64"))

    def _own_bins(self, histogram: int) -> list[tuple[Expr, Expr, Expr]]:
        """This thread's bins, the highest first: (bin, number, weight). Those of the digits that
        take turns are empty afterwards."""
        block, search = self.block, self.search
        bins = []
        for i in range(BINS_PER_THREAD):
            place = let(BINS - 1 - i - block.thread * BINS_PER_THREAD, "int64")
            where = (block.row, index(histogram), place)
            bins.append(
                (place, let(search.numbers[where], "int64"), let(search.weights[where], "int64"))
            )
            if histogram == NEXT:
                T.buffer_store(search.numbers, index(0), where)
                T.buffer_store(search.weights, index(0), where)
        return bins

    def _sum(self, bins: list[tuple[Expr, Expr, Expr]], is_meant: Callable[[Expr], Expr]) -> Expr:
        """The weight of those bins of all threads that are meant."""
        own = Local(0, "int64")
        for bin_, _, weight in bins:
            own.set(own.value + tirx.Select(is_meant(bin_), weight, index(0)))
        return let(self.block.reducer.sum(own.value, "int64"), "int64")
