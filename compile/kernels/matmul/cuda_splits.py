"""The inputs of a tile of features shared by several blocks, where tiles alone are too few.

Each block writes its sums to scratch memory. The last one of a tile to come adds up all of them, in
the order of the inputs: which block is last changes no bit. A counter of the tile tells who is
last; it belongs to the kernels' code and goes back to zero by itself, so that a graph can be
launched again and again. Kernels that use it run one after the other, on one stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.cuda_ir import DYNAMIC, barrier, let
from ingot.compile.kernels.tensor_core import int32
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index, otherwise_if

# What the last block of a tile reads, at most. By arithmetic: a multiprocessor reads some 100 bytes
# a nanosecond from the second-level cache, so this is little more than the time of a launch.
MOST_PARTIAL_BYTES = 128 << 10
MOST_TILES = 1024  # that have a counter (`ingot_arrived` in `compile/cuda/intrinsics.cuh`)


def shares(tiles: int, chunks: int, enough_blocks: int, sums: int) -> tuple[int, int]:
    """The blocks of a tile, and the chunks of inputs of each: as many blocks as make
    `enough_blocks` of all tiles at most, none of them without a chunk. One block then reads all of
    the tile's `sums`, so there are fewer blocks where those are many."""
    most = max(1, MOST_PARTIAL_BYTES // (4 * sums)) if tiles <= MOST_TILES else 1
    wanted = max(1, min(chunks, enough_blocks // tiles, most))
    share = -(-chunks // wanted)
    return -(-chunks // share), share


@dataclass(frozen=True, slots=True)
class Splits:
    """How many blocks share a tile, and how many chunks of inputs each of them has, at most."""

    count: int
    chunks: int
    sums: int  # of a tile
    partials: Buffer | None

    @staticmethod
    def of(tiles: int, sums: int, count: int, chunks: int) -> Splits:
        shape = (tiles * count, sums)
        return Splits(count, chunks, sums, T.alloc_buffer(shape, "float32") if count > 1 else None)

    def place(self, block: Expr) -> tuple[Expr, Expr]:
        """Which tile a block is of, and which share it has: those of a tile start together."""
        if self.count == 1:
            return block, index(0)
        return tirx.floordiv(block, self.count), tirx.floormod(block, self.count)

    def finish(
        self,
        tile: Expr,
        split: Expr,
        thread: Expr,
        place: tuple[Expr, Expr],
        sums: list[Buffer],
        flag: Buffer,
        store: Callable[[], None],
    ) -> None:
        """Run `store` once, with the sums of all blocks of the tile. `place` says which lane of the
        tile's this is, and whether its sums count; the first word of `flag` is free in shared
        memory once all threads are here."""
        if self.partials is None:
            store()
            return
        partials, (lane, counts) = self.partials, place
        lanes = self.sums // (4 * len(sums))

        def column(i: int) -> Expr:
            return index(i * lanes + lane)

        with otherwise_if(counts):
            for i in range(4 * len(sums)):
                row = tile * self.count + split
                T.buffer_store(partials, sums[i // 4][i % 4], [row, column(i)])
        barrier(DYNAMIC)
        with otherwise_if(thread == 0):
            count = tirx.const(self.count, "int32")
            is_last = T.call_extern("int32", "ingot_is_last_of_tile", int32(tile), count)
            T.buffer_store(flag, tirx.Cast("uint32", is_last), [0])
        barrier(DYNAMIC)
        is_last = let(flag[0], "uint32")
        one = tirx.const(1, "uint32")
        with otherwise_if(tirx.And(is_last == one, counts)):
            for i in range(4 * len(sums)):
                total = let(partials[tile * self.count, column(i)])
                for other in range(1, self.count):
                    total = let(total + partials[tile * self.count + other, column(i)])
                T.buffer_store(sums[i // 4], total, [i % 4])
            store()
