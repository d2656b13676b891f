"""The kernels of sampling on a GPU; `sample.py` and `penalize.py` say what, `cuda_mask.py` and
`cuda_logprobs.py` those that only GPUs have: a CPU's runtime masks and ranks on the host.

A row is cut into splits, one block each, since one multiprocessor would read a vocabulary too long.
Blocks can't wait for each other: every step that needs all of them is a kernel of its own, and the
last block to end does what the whole row is needed for. One kernel finds the largest logit, five
the thresholds, digit by digit (`cuda_threshold.py`), one draws; they pass over rows that have no
use for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import Local, launch, let, strided
from ingot.compile.kernels.sampling.cuda_block import (
    PER_THREAD,
    SPLIT,
    THREADS,
    Row,
    SplitBlock,
    as_integer,
    key_of,
    num_splits,
)
from ingot.compile.kernels.sampling.cuda_logprobs import build_logprobs
from ingot.compile.kernels.sampling.cuda_mask import build_mask
from ingot.compile.kernels.sampling.cuda_threshold import (
    ABOVE,
    FLOOR,
    IDLE,
    PREFIX,
    STAGE,
    TOP_K,
    TOP_P,
    BinSearch,
    DigitBlock,
    Search,
)
from ingot.compile.kernels.sampling.spec import SamplingSpec
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, count, index, kernel, otherwise_if
from ingot.targets import Target

PENALIZE_THREADS = 128
NUM_COUNTERS = 6  # of the kernels with a last block

__all__ = [
    "build_logprobs",
    "build_mask",
    "build_penalize",
    "build_sample",
]


def build_sample(spec: SamplingSpec, target: Target) -> tirx.PrimFunc:
    """(logits, temperature, top_k, top_p, min_p, uniform, tokens) -> nothing; writes tokens."""
    m = count("m")
    with kernel("sample") as k:
        sampler = Sampler(
            m=m,
            size=spec.vocab_size,
            logits=k.argument("logits", (m, spec.vocab_size)),
            temperature=k.argument("temperature", (m,)),
            top_k=k.argument("top_k", (m,), "int32"),
            top_p=k.argument("top_p", (m,)),
            min_p=k.argument("min_p", (m,)),
            uniform=k.argument("uniform", (m,)),
            tokens=k.argument("tokens", (m,), "int32"),
            largest=T.alloc_buffer((m, num_splits(spec.vocab_size)), "float32"),
            places=T.alloc_buffer((m, num_splits(spec.vocab_size)), "int64"),
            weights=T.alloc_buffer((m, num_splits(spec.vocab_size)), "int64"),
            counters=T.alloc_buffer((m, NUM_COUNTERS), "uint32"),
            search=Search.allocate(m),
        )
        sampler.find_largest()
        sampler.count_first_digit()
        for number, stage in ((1, TOP_K), (3, TOP_P)):
            for digit in (1, 2):
                sampler.count_digit(digit, stage, number + digit - 1)
        sampler.draw(NUM_COUNTERS - 1)
    return k.function


@dataclass(frozen=True, slots=True)
class Sampler:
    """Emits the kernels. The last five buffers are their own, the first of them one value a split:
    the largest logit, where it is, and the weight of what may be drawn."""

    m: Expr
    size: int
    logits: Buffer
    temperature: Buffer
    top_k: Buffer
    top_p: Buffer
    min_p: Buffer
    uniform: Buffer
    tokens: Buffer
    largest: Buffer
    places: Buffer
    weights: Buffer
    counters: Buffer
    search: Search

    @contextmanager
    def _launch(self) -> Iterator[SplitBlock]:
        splits = index(num_splits(self.size))
        with launch(splits, THREADS, self.m) as (split, row, thread):
            yield SplitBlock(self.size, split, row, thread)

    def find_largest(self) -> None:
        """Of each split, the lowest of equals. Clears what the other kernels add to."""
        with self._launch() as block:
            self.search.clear(block)
            with otherwise_if(tirx.And(block.split == 0, block.thread < NUM_COUNTERS)):
                T.buffer_store(self.counters, tirx.const(0, "uint32"), [block.row, block.thread])
            best, place = Local(float("-inf")), Local(self.size, "int64")
            for i, x in block.values(self.logits):
                with otherwise_if(x > best.value):
                    best.set(x)
                    place.set(i)
            largest = let(block.reducer.max(best.value))
            lowest = self._lowest(block, best.value == largest, place.value)
            with otherwise_if(block.thread == 0):
                T.buffer_store(self.largest, largest, [block.row, block.split])
                T.buffer_store(self.places, lowest, [block.row, block.split])

    def _lowest(self, block: SplitBlock, has_it: Expr, place: Expr) -> Expr:
        mine = tirx.Select(has_it, place, index(self.size))
        return let(block.reducer.min(mine, "int64"), "int64")

    def _row(self, block: SplitBlock) -> tuple[Row, Expr]:
        """The row, and the lowest place of its largest logit."""
        best, place = Local(float("-inf")), Local(self.size, "int64")
        with strided(block.thread, num_splits(self.size), THREADS) as split:
            x = let(self.largest[block.row, split])
            with otherwise_if(x > best.value):
                best.set(x)
                place.set(self.places[block.row, split])
        largest = let(block.reducer.max(best.value))
        lowest = self._lowest(block, best.value == largest, place.value)
        return Row(let(self.temperature[block.row]), largest), lowest

    def _has_top_p(self, row: Expr) -> Expr:
        return self.top_p[row] < tirx.const(1.0, "float32")

    def count_first_digit(self) -> None:
        """Also takes the largest logit, which stays where nothing is drawn."""
        with self._launch() as block:
            digit = DigitBlock(block, self.search, 0)
            row, place = self._row(block)
            with otherwise_if(tirx.And(block.split == 0, block.thread == 0)):
                token = tirx.Select(place < self.size, place, index(0))
                T.buffer_store(self.tokens, tirx.Cast("int32", token), [block.row])
            k = let(index(self.top_k[block.row]), "int64")
            has_k = let(tirx.Cast("int32", tirx.And(k > 0, k < self.size)), "int32")
            filters = tirx.Or(has_k == 1, self._has_top_p(block.row))
            is_on = tirx.And(row.temperature > 0, filters)
            is_on = let(tirx.Cast("int32", is_on), "int32")
            with otherwise_if(is_on == 1):
                digit.count(block.values(self.logits), row)

                def start() -> None:
                    bins = BinSearch(block, self.search)
                    with T.If(has_k == 1):
                        with T.Then():
                            bins.start_top_k(k)
                        with T.Else():
                            bins.start_top_p(self.top_p[block.row], bins.total())

                block.when_last(self.counters, 0, start)

    def count_digit(self, number: int, stage: int, counter: int) -> None:
        """One more digit of the threshold that `stage` looks for, in rows that look for it."""
        with self._launch() as block:
            digit = DigitBlock(block, self.search, number)
            row, _ = self._row(block)
            now = self.search.get(block.row, STAGE)
            with otherwise_if(now == stage):
                digit.count(block.values(self.logits), row)

                def choose() -> None:
                    bins = BinSearch(block, self.search)
                    bins.choose(number, by_weight=stage == TOP_P)
                    if number == 2:
                        self._end_stage(bins, stage)

                block.when_last(self.counters, counter, choose)

    def _end_stage(self, bins: BinSearch, stage: int) -> None:
        bins.set(FLOOR, bins.get(PREFIX))
        bins.set(STAGE, index(IDLE))
        if stage == TOP_K:
            has_top_p = let(tirx.Cast("int32", self._has_top_p(bins.block.row)), "int32")
            with otherwise_if(has_top_p == 1):
                bins.start_top_p(self.top_p[bins.block.row], bins.get(ABOVE))

    def draw(self, counter: int) -> None:
        """The first token at which the running sum of weights passes uniform * total."""
        with self._launch() as block:
            row, _ = self._row(block)
            is_random = let(tirx.Cast("int32", row.temperature > 0), "int32")
            with otherwise_if(is_random == 1):
                floor = self.search.get(block.row, FLOOR)
                least = let(self.min_p[block.row])

                def weight(i: Expr, x: Expr) -> Expr:
                    """0 where a logit may not be drawn."""
                    plain = row.weight(x)
                    kept = tirx.And(index(key_of(x)) >= floor, plain >= least)
                    kept = tirx.And(kept, i < self.size)
                    return let(tirx.Select(kept, as_integer(plain), index(0)), "int64")

                own = Local(0, "int64")
                for i, x in block.values(self.logits):
                    own.set(own.value + weight(i, x))
                total = let(block.reducer.sum(own.value, "int64"), "int64")
                with otherwise_if(block.thread == 0):
                    T.buffer_store(self.weights, total, [block.row, block.split])

                def choose() -> None:
                    self._choose_token(block, weight)

                block.when_last(self.counters, counter, choose)

    def _choose_token(self, block: SplitBlock, weight: Callable[[Expr, Expr], Expr]) -> None:
        """Walk the splits, then the one that holds the token: each thread a run of neighbours."""
        total = Local(0, "int64")
        with T.serial(index(num_splits(self.size))) as split:
            total.set(total.value + self.weights[block.row, split])
        uniform = tirx.Cast("float64", self.uniform[block.row])
        goal = let(tirx.Cast("int64", uniform * tirx.Cast("float64", total.value)), "int64")
        chosen, passed = Local(0, "int64"), Local(0, "int64")
        before = Local(0, "int64")
        with T.serial(index(num_splits(self.size))) as split:
            after = let(passed.value + self.weights[block.row, split], "int64")
            with otherwise_if(tirx.And(passed.value <= goal, goal < after)):
                chosen.set(split)
                before.set(passed.value)
            passed.set(after)
        first = let(chosen.value * SPLIT + block.thread * PER_THREAD, "int64")
        last = index(self.size - 1)
        run = []
        for part in range(PER_THREAD):
            i = let(first + part, "int64")
            run.append((i, weight(i, let(self.logits[block.row, tirx.Min(i, last)]))))
        own = Local(0, "int64")
        for _, part in run:
            own.set(own.value + part)
        reached = let(before.value + block.sum_before(own.value), "int64")
        for i, part in run:
            after = let(reached + part, "int64")
            with otherwise_if(tirx.And(reached <= goal, goal < after)):
                T.buffer_store(self.tokens, tirx.Cast("int32", i), [block.row])
            reached = after


def build_penalize(spec: SamplingSpec, target: Target) -> tirx.PrimFunc:
    """(logits, row_offsets, tokens, output_counts, seen, bias, repetition, presence, frequency)."""
    m, z = count("m"), count("z")
    zero = tirx.const(0.0, "float32")
    with kernel("penalize") as k:
        logits = k.argument("logits", (m, spec.vocab_size))
        row_offsets = k.argument("row_offsets", (count("m_plus_1"),), "int32")
        tokens = k.argument("tokens", (z,), "int32")
        output_counts = k.argument("output_counts", (z,), "int32")
        seen = k.argument("seen", (z,), "int32")
        bias = k.argument("bias", (z,))
        repetition = k.argument("repetition", (m,))
        presence = k.argument("presence", (m,))
        frequency = k.argument("frequency", (m,))
        with launch(m, PENALIZE_THREADS) as (row, thread):
            first = let(index(row_offsets[row]), "int64")
            length = let(index(row_offsets[row + 1]) - first, "int64")
            with strided(thread, length, PENALIZE_THREADS) as i:
                at = let(first + i, "int64")
                token = let(index(tokens[at]), "int64")
                x = let(logits[row, token])
                penalised = tirx.Select(x > zero, x / repetition[row], x * repetition[row])
                x = let(tirx.Select(seen[at] != 0, penalised, x))
                x = let(x - tirx.Select(output_counts[at] > 0, presence[row], zero))
                x = x - frequency[row] * tirx.Cast("float32", output_counts[at])
                T.buffer_store(logits, x + bias[at], [row, token])
    return k.function
