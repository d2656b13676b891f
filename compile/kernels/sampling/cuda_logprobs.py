"""Find the log of the sum of a row's exponentials, the chosen token's logit and the likeliest ones.

logits: [m, vocab_size], as the model gave them; tokens: [m]; num_top: [m], how many tokens to find,
-1 where nothing is asked; out: [m, 2 + 2 * MAX_TOP] float64 (`field`s): log(sum(exp(logits))),
logits[tokens], then so many logits, the largest first and the lowest index of equals, then their
tokens. A log-probability is a logit less the first field. Rows that ask for nothing, and places
after a row's last, are not written.

Nothing is sorted: a block finds the largest of its 4,096 logits as often as is asked, which lie in
its threads' registers, and one block a row the largest of what those found. A logit and its token
are one integer that orders both, so each is found once and the last one found is all there is to
remember.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import BlockReducer, Local, launch, let, strided
from ingot.compile.kernels.sampling.cuda_block import THREADS, SplitBlock, key_of, num_splits
from ingot.compile.kernels.sampling.spec import SamplingSpec
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, count, index, kernel, otherwise_if
from ingot.targets import Target

MAX_TOP = 20  # as many as a request may ask for
LOG_TOTAL, CHOSEN, TOP_LOGITS = 0, 1, 2
TOP_TOKENS = TOP_LOGITS + MAX_TOP
NUM_FIELDS = TOP_TOKENS + MAX_TOP

TOKEN_BITS = 31
LAST_TOKEN = (1 << TOKEN_BITS) - 1
NO_KEY, ABOVE_ALL = -1, (1 << 63) - 1


def build_logprobs(spec: SamplingSpec, target: Target) -> tirx.PrimFunc:
    """(logits, tokens, num_top, out) -> nothing; writes out."""
    m, splits = count("m"), num_splits(spec.vocab_size)
    with kernel("logprobs") as k:
        ranking = Ranking(
            size=spec.vocab_size,
            logits=k.argument("logits", (m, spec.vocab_size)),
            tokens=k.argument("tokens", (m,), "int32"),
            num_top=k.argument("num_top", (m,), "int32"),
            out=k.argument("out", (m, NUM_FIELDS), "float64"),
            largest=T.alloc_buffer((m, splits), "float32"),
            sums=T.alloc_buffer((m, splits), "float64"),
            candidates=T.alloc_buffer((m, splits * MAX_TOP), "int64"),
        )
        with launch(index(splits), THREADS, m) as (split, row, thread):
            ranking.rank_split(SplitBlock(spec.vocab_size, split, row, thread))
        with launch(m, THREADS) as (row, thread):
            ranking.rank_row(row, thread)
    return k.function


def ordered_key(x: Expr, i: Expr) -> Expr:
    """An integer that is larger for a larger logit, and of equals for the lower token."""
    bits = tirx.Cast("int64", key_of(x)) << index(TOKEN_BITS)
    return let(bits + (LAST_TOKEN - i), "int64")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Emits the kernels. The last three buffers are their own, of each split: the largest logit,
    the sum of exponentials, and the keys of the logits that may be among a row's largest."""

    size: int
    logits: Buffer
    tokens: Buffer
    num_top: Buffer
    out: Buffer
    largest: Buffer
    sums: Buffer
    candidates: Buffer

    def rank_split(self, block: SplitBlock) -> None:
        row, split = block.row, block.split
        asked = let(index(self.num_top[row]), "int64")
        with otherwise_if(asked >= 0):
            values = block.values(self.logits)
            best, own = Local(float("-inf")), Local(0.0, "float64")
            for _, x in values:
                best.set(tirx.Max(best.value, x))
            largest = let(block.reducer.max(best.value))
            keys = []
            for i, x in values:
                # Also of what lies beyond the row's end, and of a split that is all -inf.
                is_some = x > tirx.const(float("-inf"), "float32")
                weight = let(
                    tirx.Select(is_some, tirx.exp(x - largest), tirx.const(0.0, "float32"))
                )
                own.set(own.value + tirx.Cast("float64", weight))
                keys.append(
                    let(tirx.Select(i < self.size, ordered_key(x, i), index(NO_KEY)), "int64")
                )
            total = let(block.reducer.sum(own.value, "float64"), "float64")
            with otherwise_if(block.thread == 0):
                T.buffer_store(self.largest, largest, [row, split])
                T.buffer_store(self.sums, total, [row, split])
            last = Local(ABOVE_ALL, "int64")
            with T.serial(asked) as turn:
                found = Local(NO_KEY, "int64")
                for key in keys:
                    with otherwise_if(key < last.value):
                        found.set(tirx.Max(found.value, key))
                last.set(block.reducer.max(found.value, "int64"))
                with otherwise_if(block.thread == 0):
                    T.buffer_store(self.candidates, last.value, [row, split * asked + turn])

    def rank_row(self, row: Expr, thread: Expr) -> None:
        reducer, splits = BlockReducer(thread, THREADS), num_splits(self.size)
        asked = let(index(self.num_top[row]), "int64")
        with otherwise_if(asked >= 0):
            self._write_total(row, thread, reducer)
            last = Local(ABOVE_ALL, "int64")
            with T.serial(asked) as turn:
                found = Local(NO_KEY, "int64")
                with strided(thread, let(asked * splits, "int64"), THREADS) as i:
                    key = let(self.candidates[row, i], "int64")
                    with otherwise_if(key < last.value):
                        found.set(tirx.Max(found.value, key))
                last.set(reducer.max(found.value, "int64"))
                with otherwise_if(thread == 0):
                    token = let(LAST_TOKEN - (last.value & index(LAST_TOKEN)), "int64")
                    self._write(row, TOP_LOGITS + turn, self.logits[row, token])
                    self._write(row, TOP_TOKENS + turn, token)

    def _write_total(self, row: Expr, thread: Expr, reducer: BlockReducer) -> None:
        splits = num_splits(self.size)
        best, own = Local(float("-inf")), Local(0.0, "float64")
        with strided(thread, splits, THREADS) as split:
            best.set(tirx.Max(best.value, self.largest[row, split]))
        largest = let(tirx.Cast("float64", reducer.max(best.value)), "float64")
        with strided(thread, splits, THREADS) as split:
            x = tirx.Cast("float64", self.largest[row, split])
            own.set(own.value + self.sums[row, split] * tirx.exp(x - largest))
        total = let(reducer.sum(own.value, "float64"), "float64")
        with otherwise_if(thread == 0):
            self._write(row, index(LOG_TOTAL), largest + tirx.log(total))
            self._write(row, index(CHOSEN), self.logits[row, index(self.tokens[row])])

    def _write(self, row: Expr, field: Expr, value: Expr) -> None:
        T.buffer_store(self.out, tirx.Cast("float64", value), [row, field])
