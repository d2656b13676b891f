"""The two kernels of sampling on a GPU, one block a row; `sample.py` and `penalize.py` say what.

Thresholds are found as on the CPU, by bisection over the logits' order-preserving integer image,
each step a pass of the whole block over the row. A token is drawn in two steps: each thread adds up
its own run of neighbouring logits, one thread walks the runs, then the one that holds the token.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ingot.compile.kernels.cuda_ir import (
    BlockReducer,
    Local,
    barrier,
    launch,
    let,
    shared,
    strided,
)
from ingot.compile.kernels.sampling.penalize import PenalizeSpec
from ingot.compile.kernels.sampling.sample import SampleSpec
from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    T,
    count,
    index,
    kernel,
    otherwise_if,
)
from ingot.targets import Target

THREADS = 512
PENALIZE_THREADS = 128
# The integer images of minus and plus infinity.
LEAST_IMAGE, GREATEST_IMAGE = -0x7F800001, 0x7F800000

__all__ = ["PenalizeSpec", "SampleSpec", "build_penalize", "build_sample"]


def build_sample(spec: SampleSpec, target: Target) -> tirx.PrimFunc:
    """(logits, temperature, top_k, top_p, min_p, uniform, tokens) -> nothing; writes tokens."""
    m = count("m")
    with kernel("sample") as k:
        logits = k.argument("logits", (m, spec.vocab_size))
        temperature = k.argument("temperature", (m,))
        top_k = k.argument("top_k", (m,), "int32")
        top_p = k.argument("top_p", (m,))
        min_p = k.argument("min_p", (m,))
        uniform = k.argument("uniform", (m,))
        tokens = k.argument("tokens", (m,), "int32")
        with launch(m, THREADS) as (row, thread):
            sampler = RowSampler(spec.vocab_size, logits, row, thread)
            sampler.find_largest()
            sampler.weigh(let(temperature[row]))
            sampler.keep_top_k(let(index(top_k[row]), "int64"))
            sampler.keep_top_p(let(top_p[row]))
            sampler.least_weight = let(min_p[row])
            sampler.draw(let(uniform[row]))
            with otherwise_if(thread == 0):
                T.buffer_store(tokens, tirx.Cast("int32", sampler.token.value), [row])
    return k.function


def _ordered(x: Expr) -> Expr:
    """A float as an integer of the same order (its own inverse on integers)."""
    bits = let(tirx.reinterpret("int32", x), "int32")
    return bits ^ ((bits >> 31) & tirx.const(0x7FFFFFFF, "int32"))


def _from_ordered(image: Expr) -> Expr:
    bits = let(tirx.Cast("int32", image), "int32")
    return tirx.reinterpret("float32", bits ^ ((bits >> 31) & tirx.const(0x7FFFFFFF, "int32")))


class RowSampler:
    """Emits the steps for one row; every thread of the block goes through all of them."""

    def __init__(self, size: int, logits: Buffer, row: Expr, thread: Expr) -> None:
        self.size, self.logits, self.row, self.thread = size, logits, row, thread
        self.reducer = BlockReducer(thread, THREADS)
        self.token = Local(0, "int64")
        self.threshold = Local(float("-inf"))  # logits below it are not drawn
        self.least_weight: Expr = tirx.const(0.0, "float32")

    def find_largest(self) -> None:
        best, where = Local(float("-inf")), Local(self.size, "int64")
        with strided(self.thread, self.size, THREADS) as i:
            x = let(self.logits[self.row, i])
            with otherwise_if(tirx.Or(x > best.value, where.value == self.size)):
                best.set(x)
                where.set(i)
        self.largest = let(self.reducer.max(best.value))
        has_it = best.value == self.largest
        lowest = tirx.Select(has_it, where.value, index(self.size))
        self.token.set(tirx.Min(self.reducer.min(lowest, "int64"), index(self.size - 1)))

    def weigh(self, temperature: Expr) -> None:
        """At temperature 0 the token that `find_largest` left stays: nothing is searched."""
        self.is_random = let(tirx.Cast("int32", temperature > 0), "int32")
        one = tirx.const(1.0, "float32")
        self.temperature = let(tirx.Select(self.is_random == 1, temperature, one))

    def weight(self, x: Expr) -> Expr:
        return tirx.exp((x - self.largest) / self.temperature)

    def keep_top_k(self, k: Expr) -> None:
        is_on = tirx.And(k > 0, k < self.size)
        goal = tirx.Cast("float32", k)
        self._raise_threshold(is_on, lambda x: tirx.const(1.0, "float32"), lambda all_: goal)

    def keep_top_p(self, top_p: Expr) -> None:
        self._raise_threshold(top_p < 1, self.weight, lambda all_: top_p * all_)

    def _mass(self, measure: Callable[[Expr], Expr], threshold: Expr) -> Expr:
        """What the logits at or above the threshold weigh together."""
        partial = Local(0.0)
        with strided(self.thread, self.size, THREADS) as i:
            x = let(self.logits[self.row, i])
            with otherwise_if(x >= threshold):
                partial.set(partial.value + measure(x))
        return let(self.reducer.sum(partial.value))

    def _raise_threshold(
        self, is_on: Expr, measure: Callable[[Expr], Expr], goal_of: Callable[[Expr], Expr]
    ) -> None:
        """Raise the threshold as far as the logits at or above it still weigh the goal."""
        search = let(tirx.Cast("int32", tirx.And(is_on, self.is_random == 1)), "int32")
        with otherwise_if(search == 1):
            goal = let(goal_of(self._mass(measure, self.threshold.value)))
            low = Local(index(_ordered(self.threshold.value)), "int64")  # weighs enough
            high = Local(index(_ordered(self.largest)), "int64")
            rounds = T.serial(index(32))
            with rounds:
                middle = let(
                    low.value + tirx.truncdiv(high.value - low.value + 1, index(2)), "int64"
                )
                mass = self._mass(measure, let(_from_ordered(middle)))
                enough = let(tirx.Cast("int32", mass >= goal), "int32")
                high.set(tirx.Select(enough == 1, high.value, tirx.Max(middle - 1, low.value)))
                low.set(tirx.Select(enough == 1, middle, low.value))
            self.threshold.set(_from_ordered(low.value))

    def draw(self, uniform: Expr) -> None:
        """The first index at which the running sum of the kept weights passes uniform * total."""
        run = -(-self.size // THREADS)
        runs = shared((THREADS,))
        partial = Local(0.0)
        with otherwise_if(self.is_random == 1):
            start = let(self.thread * run, "int64")
            with T.serial(index(run)) as step:
                partial.set(partial.value + self._kept_weight(start + step))
            T.buffer_store(runs, partial.value, [self.thread])
        total = self.reducer.sum(partial.value)
        barrier()
        with otherwise_if(tirx.And(self.is_random == 1, self.thread == 0)):
            goal = let(uniform * total)
            passed, chosen = Local(0.0), Local(-1, "int64")
            with T.serial(index(THREADS)) as number:
                with otherwise_if(chosen.value < 0):
                    after = let(passed.value + runs[number])
                    with T.If(after > goal):
                        with T.Then():
                            chosen.set(number)
                        with T.Else():
                            passed.set(after)
            # By rounding the last run may fall short of the goal: then its last token is meant.
            first = let(tirx.Select(chosen.value < 0, index(0), chosen.value * run), "int64")
            length = tirx.Select(chosen.value < 0, index(self.size), index(run))
            passed.set(tirx.Select(chosen.value < 0, tirx.const(0.0, "float32"), passed.value))
            is_found = Local(0, "int32")
            with T.serial(length) as step:
                with otherwise_if(is_found.value == 0):
                    weight = let(self._kept_weight(first + step))
                    passed.set(passed.value + weight)
                    with otherwise_if(weight > 0):
                        self.token.set(first + step)
                        is_found.set(tirx.Cast("int32", passed.value > goal))

    def _kept_weight(self, i: Expr) -> Expr:
        """The weight of logit `i`, 0 where it is not kept or there is none."""
        at = let(i, "int64")
        x = let(self.logits[self.row, tirx.Min(at, index(self.size - 1))])
        weight = let(self.weight(x))
        kept = tirx.And(x >= self.threshold.value, weight >= self.least_weight)
        zero = tirx.const(0.0, "float32")
        return let(tirx.Select(tirx.And(at < self.size, kept), weight, zero))


def build_penalize(spec: PenalizeSpec, target: Target) -> tirx.PrimFunc:
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
