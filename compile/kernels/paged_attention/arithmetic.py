"""How rows meet keys and values: float32 multiply-adds, or products of bfloat16 pairs.

A row is a query over `key_dim`, or a row's softmax weights over the slots of a page. It is kept as
it will be multiplied, `step` neighbours in one element, each of which is spread over all lanes.
"""

from __future__ import annotations

from typing import Protocol

from tvm import tirx

from ingot.compile.kernels.bfloat16_dot import dot_pairs, round_to_bfloat16
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, fma, let, load, splat, store, widen


class Arithmetic(Protocol):
    step: int  # neighbours multiplied and added at once

    def rows(self, num_rows: int, width: int) -> Buffer:
        """A buffer for rows of `width`."""

    def weights(self, scores: Buffer) -> Buffer:
        """A buffer for the weights that scores `[rows, slots]` are turned into."""

    def store(self, rows: Buffer, row: Expr, offset: Expr, value: Expr, lanes: int) -> Expr:
        """Put float32 lanes into a row from `offset` on; gives what was really stored."""

    def element(self, rows: Buffer, row: Expr, i: Expr, lanes: int) -> Expr:
        """The `i`-th run of `step` neighbours of a row, in every lane."""

    def vector(self, pool: Buffer, where: tuple[Expr, ...], lanes: int) -> Expr:
        """What the rows' element `i` is multiplied with, `where` being (slab, i, column):
        keys of the slots, or values of the columns, from `column` on."""

    def first_half(self, vector: Expr, lanes: int) -> Expr:
        """A vector of which the second of two neighbours may be anything: that one is zero."""

    def add(self, total: Expr, element: Expr, vector: Expr, lanes: int) -> Expr: ...


class MultiplyAdds:
    """Pools of any type, widened to float32; a row's element is one number."""

    step = 1

    def __init__(self, kv_dtype: str) -> None:
        self._kv_dtype = kv_dtype

    def rows(self, num_rows: int, width: int) -> Buffer:
        return T.alloc_buffer((num_rows, width))

    def weights(self, scores: Buffer) -> Buffer:
        return scores

    def store(self, rows: Buffer, row: Expr, offset: Expr, value: Expr, lanes: int) -> Expr:
        store(rows, (row, offset), value, lanes)
        return value

    def element(self, rows: Buffer, row: Expr, i: Expr, lanes: int) -> Expr:
        return splat(let(rows[row, i], 1), lanes)

    def vector(self, pool: Buffer, where: tuple[Expr, ...], lanes: int) -> Expr:
        return let(widen(load(pool, where, lanes), self._kv_dtype, lanes), lanes)

    def first_half(self, vector: Expr, lanes: int) -> Expr:
        raise AssertionError("there are no halves of one number")

    def add(self, total: Expr, element: Expr, vector: Expr, lanes: int) -> Expr:
        return fma(element, vector, total, lanes)


class PairProducts:
    """Pools in pairs (`has_pairs`); a row's element is two bfloat16 in one word."""

    step = 2

    def rows(self, num_rows: int, width: int) -> Buffer:
        return T.alloc_buffer((num_rows, width // 2), "uint32")

    def weights(self, scores: Buffer) -> Buffer:
        return self.rows(*(int(extent) for extent in scores.shape))

    def store(self, rows: Buffer, row: Expr, offset: Expr, value: Expr, lanes: int) -> Expr:
        bits = let(round_to_bfloat16(value, lanes), lanes, "uint16")
        words = tirx.reinterpret(f"uint32x{lanes // 2}", bits)
        store(rows, (row, tirx.floordiv(offset, 2)), words, lanes // 2)
        return widen(bits, "bfloat16", lanes)

    def element(self, rows: Buffer, row: Expr, i: Expr, lanes: int) -> Expr:
        word = splat(let(rows[row, i], 1, "uint32"), lanes)
        return tirx.reinterpret(f"uint16x{2 * lanes}", word)

    def vector(self, pool: Buffer, where: tuple[Expr, ...], lanes: int) -> Expr:
        slab, i, column = where
        # Two rows of the pool's shape hold the pairs side by side.
        pairs = load(pool, (slab, 2 * i, 2 * column), 2 * lanes)
        return let(pairs, 2 * lanes, "uint16")

    def first_half(self, vector: Expr, lanes: int) -> Expr:
        words = tirx.reinterpret(f"uint32x{lanes}", vector) & splat(0xFFFF, lanes, "uint32")
        return let(tirx.reinterpret(f"uint16x{2 * lanes}", words), 2 * lanes, "uint16")

    def add(self, total: Expr, element: Expr, vector: Expr, lanes: int) -> Expr:
        return dot_pairs(total, vector, element, lanes)
