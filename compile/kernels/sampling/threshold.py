"""Turns "the k likeliest" and "the likeliest that make up this much" into a threshold on logits.

By bisection on the logits' order-preserving integer image: each step sums the weights (ones, or
probabilities) of the logits at or above the middle, a vectorised pass over the row. As soon as few
enough candidates remain they are copied together, and the remaining steps take no time.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from ingot.compile.kernels.vector_ir import (
    NUM_CHAINS,
    Buffer,
    Expr,
    Register,
    T,
    accumulate_row,
    ceil_div,
    for_pieces,
    index,
    let,
    load,
    otherwise_if,
    pieces,
    reduce_max,
    reduce_sum,
    splat,
    store,
)

CANDIDATES_SHARE = 8  # candidates are copied together once at most 1/8 of the row is left
MINUS_INFINITY = float("-inf")


def _ordered(x: Expr) -> Expr:
    """A float as an integer of the same order (its own inverse on integers)."""
    bits = let(tirx.reinterpret("int32", x), 1, "int32")
    return let(bits ^ ((bits >> 31) & tirx.const(0x7FFFFFFF, "int32")), 1, "int32")


def _from_ordered(image: Expr) -> Expr:
    bits = image ^ ((image >> 31) & tirx.const(0x7FFFFFFF, "int32"))
    return let(tirx.reinterpret("float32", bits), 1)


class Threshold:
    """The logit below which a row's tokens are dropped: at first none are.

    `weights` are those of the row's logits; they must be there before the threshold is raised.
    """

    def __init__(self, logits: Buffer, row: Expr, size: int, weights: Buffer, lanes: int) -> None:
        self._logits, self._row, self._size = logits, row, size
        self._weights, self._lanes = weights, lanes
        self._cut = Register(1, MINUS_INFINITY)
        step = NUM_CHAINS * lanes
        self._capacity = -(-size // CANDIDATES_SHARE // step) * step + step
        self._candidates = T.alloc_buffer((self._capacity,))
        self._candidate_weights = T.alloc_buffer((self._capacity,))
        self._num_candidates = Register(1, index(-1), "int64")  # -1: not copied together

    @property
    def value(self) -> Expr:
        return self._cut.value

    def _sum(self, value: Callable[[Expr, int], Expr]) -> Expr:
        return accumulate_row(self._size, self._lanes, lambda at, n, acc: acc + value(at, n))

    def raise_to(self, target: Expr, largest: Expr, *, is_count: bool) -> None:
        """The largest threshold at or above which the weights still reach `target`."""
        low = Register(1, _ordered(self.value), "int32")
        high = Register(1, _ordered(largest) + 1, "int32")
        # int64: the images of -inf and inf are further apart than an int32 holds.
        with T.While(tirx.Cast("int64", high.value) - tirx.Cast("int64", low.value) > 1):
            both = tirx.Cast("int64", low.value) + tirx.Cast("int64", high.value)
            middle = let(tirx.Cast("int32", tirx.floordiv(both, 2)), 1, "int32")
            cut = _from_ordered(middle)
            with T.If(self.weight_from(cut, is_count=is_count) >= target):
                with T.Then():
                    low.set(middle)
                    with otherwise_if(self._num_candidates.value < 0):
                        self._collect_candidates(cut)
                with T.Else():
                    high.set(middle)
        self._cut.set(_from_ordered(low.value))

    def weight_from(self, cut: Expr, *, is_count: bool) -> Expr:
        """How many logits are at or above `cut`, or the sum of their weights."""
        result = Register(1)

        def kept(x: Buffer, w: Buffer, where: tuple[Expr, ...], at: Expr, lanes: int) -> Expr:
            weight = splat(1.0, lanes) if is_count else load(w, (at,), lanes)
            is_kept = load(x, (*where, at), lanes) >= splat(cut, lanes)
            return tirx.Select(is_kept, weight, splat(0.0, lanes))

        with T.If(self._num_candidates.value < 0):
            with T.Then():
                row = (self._row,)
                total = self._sum(lambda at, n: kept(self._logits, self._weights, row, at, n))
                result.set(total)
            with T.Else():
                chains = [Register(self._lanes, 0.0) for _ in range(NUM_CHAINS)]
                step = NUM_CHAINS * self._lanes
                with T.serial(ceil_div(self._num_candidates.value, step)) as i:
                    for c, chain in enumerate(chains):
                        at = i * step + c * self._lanes
                        value = kept(self._candidates, self._candidate_weights, (), at, self._lanes)
                        chain.set(chain.value + value)
                one, two, three, four = (chain.value for chain in chains)
                result.set(reduce_sum((one + two) + (three + four), self._lanes))
        return result.value

    def _collect_candidates(self, cut: Expr) -> None:
        """Copy logits at or above `cut` together, if they are few; the rest is never asked for."""
        number = self._sum(
            lambda at, n: tirx.Select(
                load(self._logits, (self._row, at), n) >= splat(cut, n),
                splat(1.0, n),
                splat(0.0, n),
            ),
        )
        step = NUM_CHAINS * self._lanes
        with otherwise_if(number <= tirx.const(float(self._capacity - step), "float32")):
            self._num_candidates.set(index(0))

            def collect(offset: Expr, lanes: int, _: int) -> None:
                vector = load(self._logits, (self._row, offset), lanes)
                with otherwise_if(reduce_max(vector, lanes) >= cut), T.serial(lanes) as lane:
                    at = let(offset + lane, 1, "int64")
                    with otherwise_if(self._logits[self._row, at] >= cut):
                        to = let(self._num_candidates.value, 1, "int64")
                        T.buffer_store(self._candidates, self._logits[self._row, at], [to])
                        T.buffer_store(self._candidate_weights, self._weights[at], [to])
                        self._num_candidates.set(to + 1)

            for_pieces(self._size, self._lanes, 1, collect)
            for offset, lanes in pieces(step, self._lanes):  # up to a whole step: never kept
                end = self._num_candidates.value + offset
                store(self._candidates, (end,), splat(MINUS_INFINITY, lanes), lanes)
                store(self._candidate_weights, (end,), splat(0.0, lanes), lanes)
