"""Paged attention one value at a time, in float32: one block for each token and query head.

A block walks the visible context `WARP` positions at a time with an online softmax. Scores: lane =
position, the warps share the dimensions of the head and add up in shared memory. Output: each
thread keeps its own dimensions of the value. Positions are cut at multiples of `WARP` from 0 on
and a row meets nothing of any other, so its bits do not depend on the batch.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import (
    LOWEST,
    WARP,
    Local,
    add,
    barrier,
    launch,
    let,
    reduce_warp,
    shared,
    strided,
)
from ingot.compile.kernels.paged_attention.cuda_tensors import Tensors, visible_range
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.vector_ir import (
    Expr,
    T,
    ceil_div,
    index,
    maximum,
    otherwise_if,
    widen,
)

WARPS = 4
THREADS = WARPS * WARP


def attend_plain(spec: PagedAttentionSpec, tensors: Tensors) -> None:
    """Emit the kernel."""
    with launch(tensors.n * spec.num_heads, THREADS) as (block, thread):
        PlainAttention(spec, tensors, block, thread).run()


class PlainAttention:
    """Emits the steps of one block."""

    def __init__(
        self, spec: PagedAttentionSpec, tensors: Tensors, block: Expr, thread: Expr
    ) -> None:
        self.spec, self.tensors, self.thread = spec, tensors, thread
        self.lane, self.warp = tirx.floormod(thread, WARP), tirx.floordiv(thread, WARP)
        self.row = let(tirx.floordiv(block, spec.num_heads), "int64")
        self.head = let(tirx.floormod(block, spec.num_heads), "int64")
        self.kv_head = let(tirx.floordiv(self.head, spec.group), "int64")
        self._find_row()
        self.query = shared((spec.key_dim,))
        self.partial, self.weights = shared((WARPS, WARP)), shared((WARP,))

    def _find_row(self) -> None:
        offsets = self.tensors.query_offsets
        found = Local(0, "int64")
        with T.serial(self.tensors.b) as s:
            with otherwise_if(index(offsets[s + 1]) <= self.row):
                found.set(s + 1)
        self.sequence = let(tirx.Min(found.value, self.tensors.b - 1), "int64")
        self.is_owned = let(tirx.Cast("int32", found.value < self.tensors.b), "int32")
        self.context = let(index(self.tensors.context_lengths[self.sequence]), "int64")
        new = index(offsets[self.sequence + 1]) - self.row
        self.position = let(self.context - new, "int64")
        self.begin, end = visible_range(self.spec, self.position, self.context)
        self.end = let(tirx.Select(self.is_owned == 1, end, index(0)), "int64")

    def run(self) -> None:
        spec, tensors = self.spec, self.tensors
        with strided(self.thread, spec.key_dim, THREADS) as d:
            value = tensors.query_value(spec, self.row, self.head, d)
            T.buffer_store(self.query, value, [d])
        self._start()
        barrier()
        first = let(tirx.floordiv(self.begin, WARP), "int64")
        with T.serial(tirx.Max(ceil_div(self.end, WARP) - first, index(0))) as step:
            start = let((first + step) * WARP, "int64")
            self._weigh(start)
            self._add_values(start)
        with otherwise_if(self.is_owned == 1):
            for number, output in enumerate(self.outputs):
                d = self.thread + number * THREADS
                with otherwise_if(d < spec.value_dim):
                    column = self.head * spec.value_dim + d
                    T.buffer_store(tensors.out, output.value / self.total.value, [self.row, column])

    def _start(self) -> None:
        """A sink is a key without a value."""
        tensors = self.tensors
        sink = None if tensors.sinks is None else tensors.sinks[self.head]
        # Slopes count from the query, where the weights are large and their rounding shows.
        if sink is not None and tensors.slopes is not None:
            sink = sink - tensors.slopes[self.head] * tirx.Cast("float32", self.position)
        self.largest = Local(LOWEST if sink is None else sink)
        self.total = Local(0.0 if sink is None else tirx.const(1.0, "float32"))
        owned = -(-self.spec.value_dim // THREADS)  # value dimensions of one thread
        self.outputs = [Local(0.0) for _ in range(owned)]

    def _slot(self, position: Expr) -> tuple[Expr, Expr]:
        """Where the pools hold a position: the slab, and the slot in it."""
        page, size = tirx.floordiv(position, self.spec.page_size), self.spec.page_size
        slab = self.tensors.slab(self.spec, self.sequence, page, self.kv_head)
        return slab, let(tirx.floormod(position, size), "int64")

    def _weigh(self, start: Expr) -> None:
        """Score the positions from `start` on, a lane each, and leave their weights to be read."""
        spec, zero = self.spec, tirx.const(0.0, "float32")
        position = let(start + self.lane, "int64")
        sees = tirx.And(position >= self.begin, position < self.end)
        visible = let(tirx.Cast("int32", sees), "int32")
        slab, slot = self._slot(let(tirx.Min(position, self.context - 1), "int64"))
        score = Local(0.0)
        with strided(self.warp, spec.key_dim, WARPS) as d:
            key = widen(self.tensors.key_pool[slab, d, slot], spec.kv_dtype, 1)
            score.set(score.value + self.query[d] * key)
        T.buffer_store(self.partial, score.value, [self.warp, self.lane])
        barrier()
        value = let(sum_of([self.partial[w, self.lane] for w in range(WARPS)]))
        if spec.softcap:
            cap = tirx.const(spec.softcap, "float32")
            value = tirx.tanh(value / cap) * cap
        if self.tensors.slopes is not None:
            distance = tirx.Cast("float32", position - self.position)
            value = value + self.tensors.slopes[self.head] * distance
        value = let(tirx.Select(visible == 1, value, tirx.const(LOWEST, "float32")))
        higher = let(maximum(self.largest.value, reduce_warp(value, tirx.Max)))
        weight = let(tirx.Select(visible == 1, tirx.exp(value - higher), zero))
        shrink = let(tirx.exp(self.largest.value - higher))
        self.largest.set(higher)
        self.total.set(self.total.value * shrink + reduce_warp(weight, add))
        for output in self.outputs:
            output.set(output.value * shrink)
        with otherwise_if(self.warp == 0):
            T.buffer_store(self.weights, weight, [self.lane])
        barrier()

    def _add_values(self, start: Expr) -> None:
        """Each thread adds up its own dimensions."""
        with T.serial(index(WARP)) as other:
            at = let(start + other, "int64")
            # Slots beyond the context may hold anything, not-a-number included.
            with otherwise_if(tirx.And(at >= self.begin, at < self.end)):
                slab, slot = self._slot(at)
                for number, output in enumerate(self.outputs):
                    d = tirx.Min(self.thread + number * THREADS, index(self.spec.value_dim - 1))
                    read = widen(self.tensors.value_pool[slab, slot, d], self.spec.kv_dtype, 1)
                    output.set(output.value + self.weights[other] * read)


def sum_of(terms: list[Expr]) -> Expr:
    """Added from left to right."""
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result
