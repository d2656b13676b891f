"""Intel's matrix tiles: eight registers of up to 16 rows of 64 bytes, and products of two of them.

A tile's number is part of the instruction, and its shape comes from `configure`, which every thread
must call before it touches one; `release` gives the tiles back, so that threads switch cheaply.
Tiles go to and from memory only. LLVM orders these calls as they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index

TILE_ROWS = 16
TILE_BYTES = 64  # of one row
WORDS = TILE_BYTES // 4  # int32 or float32 sums of one row
TILES = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """How many rows a tile has, perhaps known only when the kernel runs, and of how many bytes."""

    rows: int | Expr = TILE_ROWS
    row_bytes: int = TILE_BYTES


def configure(shapes: Sequence[Shape]) -> None:
    """Give tiles 0, 1, ... these shapes; all become zero.

    The configuration, 64 bytes: a palette (1), at 16 two bytes a tile for the length of its rows,
    at 48 one byte a tile for their number.
    """
    words: list[Expr] = [tirx.const(0, "int32")] * WORDS
    words[0] = tirx.const(1, "int32")
    for tile, shape in enumerate(shapes):
        length, rows = 4 + tile // 2, 12 + tile // 4
        words[length] = words[length] + tirx.const(shape.row_bytes << 16 * (tile % 2), "int32")
        words[rows] = words[rows] + (tirx.Cast("int32", shape.rows) << 8 * (tile % 4))
    memory = T.alloc_buffer((WORDS,), "int32")
    for i, word in enumerate(words):
        T.buffer_store(memory, word, [i])
    _call("ldtilecfg", tirx.address_of(memory[0]))


def release() -> None:
    _call("tilerelease")


def zero(tile: int) -> None:
    _call("tilezero", _number(tile))


def load(tile: int, buffer: Buffer, indices: Sequence[Expr], stride_bytes: int) -> None:
    """Fill a tile with rows that lie `stride_bytes` apart, from an element on."""
    _call(
        "tileloadd64", _number(tile), tirx.address_of(buffer[tuple(indices)]), index(stride_bytes)
    )


def store(tile: int, buffer: Buffer, indices: Sequence[Expr], stride_bytes: int) -> None:
    address = tirx.address_of(buffer[tuple(indices)])
    _call("tilestored64", _number(tile), address, index(stride_bytes))


def dot_bytes(total: int, a: int, b: int) -> None:
    """int32 total[m, n] += sum over k, i of a[m, 4k+i] * b[k, 4n+i], signed bytes; exact."""
    _call("tdpbssd", *map(_number, (total, a, b)))


def dot_bfloat16(total: int, a: int, b: int) -> None:
    """float32 total[m, n] += a[m, 2k] * b[k, 2n] over k, plus a[m, 2k+1] * b[k, 2n+1] over k.

    Both sums start at zero and are rounded at each step, whatever the number of rows. Denormal
    numbers count as zero.
    """
    _call("tdpbf16ps", *map(_number, (total, a, b)))


def _number(tile: int) -> Expr:
    return tirx.const(tile, "int8")


def _call(name: str, *args: Expr) -> None:
    intrinsic = f"llvm.x86.{name}"
    T.evaluate(tirx.call_llvm_intrin("void", intrinsic, *args))
