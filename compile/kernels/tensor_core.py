"""Calls of the device functions of `compile/cuda/intrinsics.cuh` as TIR, and a thread's place.

A fragment word is two 16-bit values. Pairs of k are dealt to words so that a lane's 8 neighbours
in memory, `8t..8t+7` of 32, are its words for two instructions: both operands deal alike, and a sum
doesn't care. Of 8-bit floats a word is four, and those instructions sum up 64.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP
from ingot.compile.kernels.vector_ir import Buffer, Expr, T

ROWS, COLUMNS = 16, 8  # of the tile that one instruction sums up
LANE_WORDS = 4  # of a lane for two instructions
UNIT_WORDS = 4 * LANE_WORDS  # of the four lanes that share a row


def words(count: int, dtype: str = "uint32") -> Buffer:
    """A thread's own words. Index them with numbers only, and they are registers."""
    return T.alloc_buffer((count,), dtype, scope="local")


def pointer(buffer: Buffer, *indices: Expr) -> Expr:
    return T.address_of(buffer[indices])


def emit(name: str, *arguments: Expr) -> None:
    """Call a device function that returns nothing."""
    T.evaluate(T.call_extern("void", f"ingot_{name}", *arguments))


def int32(value: Expr) -> Expr:
    """For indices that are small: 64-bit ones take two registers and several instructions."""
    return tirx.Cast("int32", value)


@dataclass(frozen=True, slots=True)
class Lane:
    """Where a thread is: its warp, and its row g and column pair t of a fragment."""

    warp: Expr
    lane: Expr
    g: Expr
    t: Expr

    @staticmethod
    def of(thread: Expr) -> Lane:
        small = int32(thread)
        lane = tirx.floormod(small, WARP)
        return Lane(
            tirx.floordiv(small, WARP), lane, tirx.floordiv(lane, 4), tirx.floormod(lane, 4)
        )


def pair(low: Expr, high: Expr, dtype: str) -> Expr:
    """Two float32 rounded to 16 bits, in one word."""
    return T.call_extern("uint32", f"ingot_pair_{SHORT[dtype]}", low, high)


def quad(values: list[Expr]) -> Expr:
    """Four float32 rounded to e4m3, in one word; what is too large becomes the largest."""
    return T.call_extern("uint32", "ingot_quad_e4m3", *values)


SHORT = {"float16": "f16", "bfloat16": "bf16", "float8": "e4m3"}


def zeros(count: int) -> Buffer:
    """A thread's own float32 sums."""
    sums = words(count, "float32")
    clear(sums, count)
    return sums


def clear(sums: Buffer, count: int) -> None:
    for i in range(count):
        T.buffer_store(sums, tirx.const(0.0, "float32"), [i])


def multiply(dtype: str, sums: Expr, upper: Buffer, lower: Buffer, right: Buffer) -> None:
    """sums += A B over 32 k, 64 of 8-bit floats. `upper` and `lower` are a lane's words of rows g
    and g + 8 of A, `right` those of column g of B; `sums` points to its four."""
    for s in range(2):
        left = [half[2 * s + i] for i in range(2) for half in (upper, lower)]
        emit(f"mma_{SHORT[dtype]}", sums, *left, right[2 * s], right[2 * s + 1])


def half_of(word: Expr, high: int, dtype: str = "float16") -> Expr:
    """One of the two 16-bit numbers of a word as float32."""
    name = f"ingot_{SHORT[dtype]}_of"
    return T.call_extern("float32", name, word, tirx.const(high, "int32"))
