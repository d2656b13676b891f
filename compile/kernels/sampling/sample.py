"""Pick a token a row: softmax at a temperature, top-k, top-p, min-p, then the inverse of the CDF.

logits: [m, vocab_size] float32; one temperature, top_k, top_p, min_p, uniform a row; tokens: [m].
Temperature 0 takes the largest logit, the lowest index among equals. Filters apply in the order of
transformers: top-k keeps the k largest logits, top-p the fewest of these whose probability reaches
top_p of theirs, min-p those at least min_p as likely as the likeliest. Tokens that tie with the
last one kept are kept too, so a filter is a threshold on the logit (`threshold.py` finds it) and
nothing is sorted. Rows are spread over the cores.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ingot.compile.kernels.sampling.spec import SamplingSpec
from ingot.compile.kernels.sampling.threshold import Threshold
from ingot.compile.kernels.vector_ir import (
    NUM_CHAINS,
    Buffer,
    Expr,
    Register,
    T,
    accumulate_row,
    count,
    for_pieces,
    index,
    kernel,
    let,
    load,
    maximum,
    minimum,
    otherwise_if,
    reduce_max,
    splat,
    store,
)
from ingot.compile.kernels.vector_math import exp
from ingot.targets import Target

MINUS_INFINITY = float("-inf")


def build(spec: SamplingSpec, target: Target) -> tirx.PrimFunc:
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
        with T.parallel(m) as row:
            sampler = RowSampler(spec, target, logits, row)
            sampler.find_largest()
            with T.If(temperature[row] > 0):
                with T.Then():
                    sampler.weigh(temperature[row])
                    sampler.keep_top_k(top_k[row])
                    sampler.keep_top_p(top_p[row])
                    sampler.keep_min_p(min_p[row])
                    sampler.draw(uniform[row])
                with T.Else():
                    sampler.take_largest()
            T.buffer_store(tokens, tirx.Cast("int32", sampler.token.value), [row])
    return k.function


class RowSampler:
    """Emits the steps for one row of logits."""

    def __init__(self, spec: SamplingSpec, target: Target, logits: Buffer, row: Expr) -> None:
        self.logits, self.row = logits, row
        self.size, self.lanes = spec.vocab_size, target.float32_lanes
        # A block is what gets searched element by element in the end.
        self.block = self.lanes * 64
        self.num_blocks = -(-self.size // self.block)
        self.largest = Register(1, MINUS_INFINITY)
        self.largest_block = Register(1, index(0), "int64")
        self.token = Register(1, index(0), "int64")
        self.weights = T.alloc_buffer((self.num_blocks * self.block,))
        self.least_weight = Register(1, 0.0)  # weights below it are not drawn
        self.mass = Register(1, 0.0)  # of the weights at or above the threshold
        self.threshold = Threshold(logits, row, self.size, self.weights, self.lanes)

    # --- passes over the row --------------------------------------------------------------------

    def _for_blocks(self, emit: Callable[[Expr, int], None]) -> None:
        """Emit `emit(start, width)` for all blocks; the last one may be narrower."""
        whole = self.size // self.block
        if whole:
            with T.serial(index(whole)) as i:
                emit(let(i * self.block, 1, "int64"), self.block)
        if self.size % self.block:
            emit(index(whole * self.block), self.size % self.block)

    def find_largest(self) -> None:
        """The largest logit and the first block that holds it."""

        def look(start: Expr, width: int) -> None:
            best = [Register(self.lanes, MINUS_INFINITY) for _ in range(NUM_CHAINS)]
            tail = Register(1, MINUS_INFINITY)

            def compare(offset: Expr, lanes: int, chain: int) -> None:
                value = load(self.logits, (self.row, start + offset), lanes)
                if lanes == self.lanes:
                    best[chain].set(maximum(best[chain].value, value))
                else:
                    tail.set(maximum(tail.value, reduce_max(value, lanes)))

            for_pieces(width, self.lanes, NUM_CHAINS, compare)
            one, two, three, four = (chain.value for chain in best)
            both = maximum(maximum(one, two), maximum(three, four))
            value = let(maximum(reduce_max(both, self.lanes), tail.value), 1)
            with otherwise_if(value > self.largest.value):
                self.largest.set(value)
                self.largest_block.set(start)

        self._for_blocks(look)

    def take_largest(self) -> None:
        self.token.set(self.largest_block.value)
        last = index(self.size - 1)
        with T.While(
            tirx.And(
                self.token.value < last,
                self.logits[self.row, minimum(self.token.value, last)] < self.largest.value,
            )
        ):
            self.token.set(self.token.value + 1)

    def weigh(self, temperature: Expr) -> None:
        """weights = exp((logits - largest) / temperature), and their sum."""
        factor = let(tirx.const(1.0, "float32") / temperature, 1)

        def weigh_piece(offset: Expr, lanes: int) -> Expr:
            x = load(self.logits, (self.row, offset), lanes) - splat(self.largest.value, lanes)
            weight = exp(x * splat(factor, lanes), lanes)
            store(self.weights, (offset,), weight, lanes)
            return weight

        total = accumulate_row(self.size, self.lanes, lambda at, n, sum_: sum_ + weigh_piece(at, n))
        self.mass.set(total)

    def keep_top_k(self, top_k: Expr) -> None:
        with otherwise_if(tirx.And(top_k > 0, top_k < self.size)):
            count_ = tirx.Cast("float32", top_k)
            self.threshold.raise_to(count_, self.largest.value, is_count=True)
            self.mass.set(self.threshold.weight_from(self.threshold.value, is_count=False))

    def keep_top_p(self, top_p: Expr) -> None:
        with otherwise_if(top_p < tirx.const(1.0, "float32")):
            # The likeliest token has weight 1: it is kept however small top_p is.
            least = maximum(top_p * self.mass.value, tirx.const(1e-6, "float32"))
            least = let(minimum(least, self.mass.value), 1)
            self.threshold.raise_to(least, self.largest.value, is_count=False)

    def keep_min_p(self, min_p: Expr) -> None:
        self.least_weight.set(minimum(min_p, tirx.const(1.0, "float32")))

    # --- the draw -------------------------------------------------------------------------------

    def _drawable(self, at: Expr, lanes: int) -> Expr:
        """The weights at `at`, zero where a filter drops the token."""
        weight = let(load(self.weights, (at,), lanes), lanes)
        is_kept = tirx.And(
            load(self.logits, (self.row, at), lanes) >= splat(self.threshold.value, lanes),
            weight >= splat(self.least_weight.value, lanes),
        )
        return tirx.Select(is_kept, weight, splat(0.0, lanes))

    def draw(self, uniform: Expr) -> None:
        """The first token at which the running sum of what may be drawn passes uniform * all."""
        sums = T.alloc_buffer((self.num_blocks,))
        total = Register(1, tirx.const(0.0, "float64"), "float64")

        def sum_block(start: Expr, width: int) -> None:
            value = accumulate_row(
                width, self.lanes, lambda o, n, sum_: sum_ + self._drawable(start + o, n)
            )
            T.buffer_store(sums, value, [tirx.floordiv(start, self.block)])
            total.set(total.value + tirx.Cast("float64", value))

        self._for_blocks(sum_block)
        target = let(tirx.Cast("float64", uniform) * total.value, 1, "float64")
        passed = Register(1, tirx.const(0.0, "float64"), "float64")
        block = Register(1, index(0), "int64")
        found = Register(1, index(0), "int64")
        zero = tirx.const(0.0, "float32")
        # Rounding may leave the target at the very end: the last block with anything in it is then
        # the one, and in it the last token that may be drawn.
        before = Register(1, tirx.const(0.0, "float64"), "float64")
        with T.While(tirx.And(block.value < self.num_blocks, passed.value <= target)):
            value = let(sums[block.value], 1)
            with otherwise_if(value > zero):
                found.set(block.value)
                before.set(passed.value)
                passed.set(passed.value + tirx.Cast("float64", value))
            block.set(block.value + 1)
        passed.set(before.value)
        at = Register(1, found.value * self.block, "int64")
        end = let(minimum(at.value + self.block, index(self.size)), 1, "int64")
        with T.While(tirx.And(at.value < end, passed.value <= target)):
            value = let(self._drawable(at.value, 1), 1)
            with otherwise_if(value > zero):
                self.token.set(at.value)
                passed.set(passed.value + tirx.Cast("float64", value))
            at.set(at.value + 1)
