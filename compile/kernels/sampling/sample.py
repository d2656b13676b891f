"""Pick a token a row: softmax at a temperature, top-k, top-p, min-p, then the inverse of the CDF.

logits: [m, vocab_size] float32; one temperature, top_k, top_p, min_p, uniform a row; tokens: [m].
Temperature 0 takes the largest logit, the lowest index among equals. Filters apply in the order of
transformers: top-k keeps the k largest logits, top-p the fewest of these whose probability reaches
top_p of theirs, min-p those at least min_p as likely as the likeliest. Tokens that tie with the
last one kept are kept too, so a filter is a threshold on the logit and nothing is sorted.

A threshold is found by bisection on the logits' order-preserving integer image: each step sums the
weights (ones, or probabilities) of the logits at or above the middle, a vectorised pass over the
row. As soon as few enough candidates remain they are copied together, and the remaining steps take
no time. Rows are spread over the cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.vector_ir import (
    Buffer,
    Expr,
    Register,
    T,
    ceil_div,
    count,
    for_pieces,
    index,
    kernel,
    let,
    load,
    maximum,
    minimum,
    otherwise_if,
    pieces,
    reduce_max,
    reduce_sum,
    splat,
    store,
)
from ingot.compile.kernels.vector_math import exp
from ingot.targets import Target

NUM_CHAINS = 4
CANDIDATES_SHARE = 8  # candidates are copied together once at most 1/8 of the vocabulary is left
MINUS_INFINITY = float("-inf")


@dataclass(frozen=True, slots=True)
class SampleSpec:
    vocab_size: int


def build(spec: SampleSpec, target: Target) -> tirx.PrimFunc:
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


def _ordered(x: Expr) -> Expr:
    """A float as an integer of the same order (its own inverse on integers)."""
    bits = let(tirx.reinterpret("int32", x), 1, "int32")
    return let(bits ^ ((bits >> 31) & tirx.const(0x7FFFFFFF, "int32")), 1, "int32")


def _from_ordered(image: Expr) -> Expr:
    bits = image ^ ((image >> 31) & tirx.const(0x7FFFFFFF, "int32"))
    return let(tirx.reinterpret("float32", bits), 1)


class RowSampler:
    """Emits the steps for one row of logits."""

    def __init__(self, spec: SampleSpec, target: Target, logits: Buffer, row: Expr) -> None:
        self.logits, self.row = logits, row
        self.size, self.lanes = spec.vocab_size, target.float32_lanes
        # A block is what gets searched element by element in the end.
        self.block = self.lanes * 64
        self.num_blocks = -(-self.size // self.block)
        self.largest = Register(1, MINUS_INFINITY)
        self.largest_block = Register(1, index(0), "int64")
        self.token = Register(1, index(0), "int64")
        self.weights = T.alloc_buffer((self.num_blocks * self.block,))
        self.threshold = Register(1, MINUS_INFINITY)  # logits below it are not drawn
        self.least_weight = Register(1, 0.0)  # weights below it are not drawn
        self.mass = Register(1, 0.0)  # of the weights at or above the threshold
        step = NUM_CHAINS * self.lanes
        self.capacity = -(-self.size // CANDIDATES_SHARE // step) * step + step
        self.candidates = T.alloc_buffer((self.capacity,))
        self.candidate_weights = T.alloc_buffer((self.capacity,))
        self.num_candidates = Register(1, index(-1), "int64")  # -1: not copied together

    # --- passes over the row --------------------------------------------------------------------

    def _for_blocks(self, emit: Callable[[Expr, int], None]) -> None:
        """Emit `emit(start, width)` for all blocks; the last one may be narrower."""
        whole = self.size // self.block
        if whole:
            with T.serial(index(whole)) as i:
                emit(let(i * self.block, 1, "int64"), self.block)
        if self.size % self.block:
            emit(index(whole * self.block), self.size % self.block)

    def _sum_pieces(self, width: int, value: Callable[[Expr, int], Expr]) -> Expr:
        """The sum of `value(offset, lanes)` over [0, width)."""
        chains = [Register(self.lanes, 0.0) for _ in range(NUM_CHAINS)]
        tail = Register(1, 0.0)

        def add(offset: Expr, lanes: int, chain: int) -> None:
            if lanes == self.lanes:
                chains[chain].set(chains[chain].value + value(offset, lanes))
            else:
                tail.set(tail.value + reduce_sum(value(offset, lanes), lanes))

        for_pieces(width, self.lanes, NUM_CHAINS, add)
        one, two, three, four = (chain.value for chain in chains)
        return let(reduce_sum((one + two) + (three + four), self.lanes) + tail.value, 1)

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

        self.mass.set(self._sum_pieces(self.size, weigh_piece))

    # --- thresholds -----------------------------------------------------------------------------

    def keep_top_k(self, top_k: Expr) -> None:
        with otherwise_if(tirx.And(top_k > 0, top_k < self.size)):
            self._raise_threshold(tirx.Cast("float32", top_k), is_count=True)
            self.mass.set(self._weight_from(self.threshold.value, is_count=False))

    def keep_top_p(self, top_p: Expr) -> None:
        with otherwise_if(top_p < tirx.const(1.0, "float32")):
            # The likeliest token has weight 1: it is kept however small top_p is.
            least = maximum(top_p * self.mass.value, tirx.const(1e-6, "float32"))
            self._raise_threshold(let(minimum(least, self.mass.value), 1), is_count=False)

    def keep_min_p(self, min_p: Expr) -> None:
        self.least_weight.set(minimum(min_p, tirx.const(1.0, "float32")))

    def _raise_threshold(self, target: Expr, *, is_count: bool) -> None:
        """The largest threshold at or above which the weights still reach `target`."""
        low = Register(1, _ordered(self.threshold.value), "int32")
        high = Register(1, _ordered(self.largest.value) + 1, "int32")
        # int64: the images of -inf and inf are further apart than an int32 holds.
        with T.While(tirx.Cast("int64", high.value) - tirx.Cast("int64", low.value) > 1):
            both = tirx.Cast("int64", low.value) + tirx.Cast("int64", high.value)
            middle = let(tirx.Cast("int32", tirx.floordiv(both, 2)), 1, "int32")
            cut = _from_ordered(middle)
            with T.If(self._weight_from(cut, is_count=is_count) >= target):
                with T.Then():
                    low.set(middle)
                    with otherwise_if(self.num_candidates.value < 0):
                        self._collect_candidates(cut)
                with T.Else():
                    high.set(middle)
        self.threshold.set(_from_ordered(low.value))

    def _weight_from(self, cut: Expr, *, is_count: bool) -> Expr:
        """How many logits are at or above `cut`, or the sum of their weights."""
        result = Register(1)

        def kept(x: Buffer, w: Buffer, where: tuple[Expr, ...], at: Expr, lanes: int) -> Expr:
            weight = splat(1.0, lanes) if is_count else load(w, (at,), lanes)
            is_kept = load(x, (*where, at), lanes) >= splat(cut, lanes)
            return tirx.Select(is_kept, weight, splat(0.0, lanes))

        with T.If(self.num_candidates.value < 0):
            with T.Then():
                row = (self.row,)
                total = self._sum_pieces(
                    self.size, lambda at, n: kept(self.logits, self.weights, row, at, n)
                )
                result.set(total)
            with T.Else():
                chains = [Register(self.lanes, 0.0) for _ in range(NUM_CHAINS)]
                step = NUM_CHAINS * self.lanes
                with T.serial(ceil_div(self.num_candidates.value, step)) as i:
                    for c, chain in enumerate(chains):
                        at = i * step + c * self.lanes
                        value = kept(self.candidates, self.candidate_weights, (), at, self.lanes)
                        chain.set(chain.value + value)
                one, two, three, four = (chain.value for chain in chains)
                result.set(reduce_sum((one + two) + (three + four), self.lanes))
        return result.value

    def _collect_candidates(self, cut: Expr) -> None:
        """Copy logits at or above `cut` together, if they are few; the rest is never asked for."""
        number = self._sum_pieces(
            self.size,
            lambda at, n: tirx.Select(
                load(self.logits, (self.row, at), n) >= splat(cut, n),
                splat(1.0, n),
                splat(0.0, n),
            ),
        )
        step = NUM_CHAINS * self.lanes
        with otherwise_if(number <= tirx.const(float(self.capacity - step), "float32")):
            self.num_candidates.set(index(0))

            def collect(offset: Expr, lanes: int, _: int) -> None:
                vector = load(self.logits, (self.row, offset), lanes)
                with otherwise_if(reduce_max(vector, lanes) >= cut), T.serial(lanes) as lane:
                    at = let(offset + lane, 1, "int64")
                    with otherwise_if(self.logits[self.row, at] >= cut):
                        to = let(self.num_candidates.value, 1, "int64")
                        T.buffer_store(self.candidates, self.logits[self.row, at], [to])
                        T.buffer_store(self.candidate_weights, self.weights[at], [to])
                        self.num_candidates.set(to + 1)

            for_pieces(self.size, self.lanes, 1, collect)
            for offset, lanes in pieces(step, self.lanes):  # up to a whole step: never kept
                end = self.num_candidates.value + offset
                store(self.candidates, (end,), splat(MINUS_INFINITY, lanes), lanes)
                store(self.candidate_weights, (end,), splat(0.0, lanes), lanes)

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
            value = self._sum_pieces(width, lambda o, n: self._drawable(start + o, n))
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
