"""The online softmax of a lane's two rows: scores of a page to weights, as fragments.

The four lanes of a row have the same maximum; the sum of weights each keeps of its own columns, and
they are added up at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import FULL_WARP, LOWEST, WARP, Combine, Local, add, let
from ingot.compile.kernels.paged_attention.cuda_tensors import Tensors
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.tensor_core import COLUMNS, LANE_WORDS, Lane, pair, words
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, maximum


def reduce_four(value: Expr, combine: Combine) -> Expr:
    """Combine the values of the four lanes of a row; all get the result."""
    result = Local(value)
    mask, width = tirx.const(FULL_WARP, "uint32"), tirx.const(WARP, "int32")
    for distance in (2, 1):
        other = T.tvm_warp_shuffle_xor(
            mask, result.value, tirx.const(distance, "int32"), width, width
        )
        result.set(combine(result.value, let(other)))
    return result.value


@dataclass(frozen=True, slots=True)
class RowPair:
    """Rows g and g + 8 of a fragment: their maxima and the sums of their weights so far."""

    spec: PagedAttentionSpec
    tensors: Tensors
    at: Lane
    heads: list[Expr]
    positions: list[Expr]
    largest: list[Local]
    totals: list[Local]

    @staticmethod
    def of(
        spec: PagedAttentionSpec,
        tensors: Tensors,
        at: Lane,
        heads: list[Expr],
        positions: list[Expr],
    ) -> RowPair:
        return RowPair(
            spec,
            tensors,
            at,
            heads,
            positions,
            [Local(LOWEST), Local(LOWEST)],
            [Local(0.0), Local(0.0)],
        )

    def start(self, *, with_sinks: bool) -> None:
        """A sink is a key without a value, which one of the four lanes counts."""
        sinks, slopes = self.tensors.sinks, self.tensors.slopes
        if sinks is None or not with_sinks:
            return
        one, zero = tirx.const(1.0, "float32"), tirx.const(0.0, "float32")
        for half in range(2):
            sink = sinks[self.heads[half]]
            if slopes is not None:
                position = tirx.Cast("float32", self.positions[half])
                sink = sink - slopes[self.heads[half]] * position
            self.largest[half].set(sink)
            self.totals[half].set(tirx.Select(self.at.t == 0, one, zero))

    def total(self, half: int) -> Expr:
        return reduce_four(self.totals[half].value, add)

    def weigh(
        self,
        scores: list[Buffer],
        start: Expr,
        ranges: list[tuple[Expr, Expr]],
        sums: list[Buffer],
    ) -> list[Buffer]:
        """The weights of a page that starts at position `start`; `sums` shrink with the maximum."""
        shrinks = []
        for half, (begin, end) in enumerate(ranges):
            highest = Local(self.largest[half].value)
            for tile, four in enumerate(scores):
                for c in range(2):
                    at = start + (tile * COLUMNS + c) + self.at.t * 2
                    sees = tirx.And(at >= begin, at < end)
                    value = self._masked(four[2 * half + c], at, sees, half)
                    T.buffer_store(four, value, [2 * half + c])
                    highest.set(maximum(highest.value, four[2 * half + c]))
            higher = let(reduce_four(highest.value, maximum))
            shrinks.append(let(tirx.exp(self.largest[half].value - higher)))
            self.largest[half].set(higher)
            self.totals[half].set(self.totals[half].value * shrinks[half])
        for four in sums:
            for i in range(4):
                T.buffer_store(four, four[i] * shrinks[i // 2], [i])
        return self._fragments(scores)

    def _masked(self, score: Expr, at: Expr, sees: Expr, half: int) -> Expr:
        if self.spec.softcap:
            cap = tirx.const(self.spec.softcap, "float32")
            score = tirx.tanh(score / cap) * cap
        if self.tensors.slopes is not None:
            # Counted from the query, where the weights are large and their rounding shows.
            distance = tirx.Cast("float32", at - self.positions[half])
            score = score + self.tensors.slopes[self.heads[half]] * distance
        return tirx.Select(sees, score, tirx.const(LOWEST, "float32"))

    def _fragments(self, scores: list[Buffer]) -> list[Buffer]:
        """Sums of S are laid out as left operands are: two tiles of 8 slots make one of 16."""
        fragments = []
        for first in range(0, len(scores), 2):
            fragment = words(LANE_WORDS)
            for i in range(LANE_WORDS):
                four, half = scores[first + i // 2], i % 2
                weights = [let(self._weight(four[2 * half + c], half)) for c in range(2)]
                total = self.totals[half]
                total.set(total.value + (weights[0] + weights[1]))
                word = pair(weights[0], weights[1], self.spec.kv_dtype)
                T.buffer_store(fragment, word, [i])
            fragments.append(fragment)
        return fragments

    def _weight(self, score: Expr, half: int) -> Expr:
        """0 for what is not seen, also where a row sees nothing of the pages so far."""
        value, zero = let(score), tirx.const(0.0, "float32")
        weight = tirx.exp(value - self.largest[half].value)
        return tirx.Select(value > tirx.const(LOWEST, "float32"), weight, zero)
