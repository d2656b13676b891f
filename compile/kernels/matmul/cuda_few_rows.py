"""Up to 64 rows of x by a weight matrix: each weight is read from memory once, 16 bytes at a time.

A block computes out[0:n, 16 * across features]; a warp 16 features, as the rows of a matrix
instruction, by all rows of x, as its columns, 8 at a time. The `along` warps of the same features
share the inputs and add up in shared memory at the end. x goes through shared memory in 16 bits,
`chunk` inputs at a time; weights go straight from memory to registers and are widened there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP, barrier, launch, let, shared, strided
from ingot.compile.kernels.matmul.cuda_epilogue import Epilogue, add_product
from ingot.compile.kernels.matmul.cuda_inputs import Inputs
from ingot.compile.kernels.matmul.spec import GROUP
from ingot.compile.kernels.tensor_core import (
    COLUMNS,
    LANE_WORDS,
    ROWS,
    UNIT_WORDS,
    Lane,
    emit,
    int32,
    pair,
    pointer,
    words,
    zeros,
)
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index, minimum, otherwise_if
from ingot.targets import TargetError

LARGEST_LOAD = 4 * GROUP  # inputs of four lanes' 16 bytes each, of 4-bit weights
STATIC_SHARED_BYTES, MAX_THREADS = 48 << 10, 1024  # of a block, on every GPU
PAIR = 2  # inputs of 16 bits in a word; fewer bits take less room
PADDING = 16  # words after a row of x, so that two rows of a warp's read are in different banks


@dataclass(frozen=True, slots=True)
class FewRowsTiling:
    """`row_tiles` * 8 rows of x; `across` * `along` warps; `chunk` inputs in shared memory."""

    row_tiles: int
    across: int
    along: int
    chunk: int

    def __post_init__(self) -> None:
        fits = self.shared_words() * 4 <= STATIC_SHARED_BYTES and self.threads <= MAX_THREADS
        if not fits or self.chunk % (LARGEST_LOAD * self.along):
            raise TargetError(
                f"a matmul of few rows can't have {self.across} x {self.along} warps and "
                f"{self.chunk} inputs in shared memory: inputs are a multiple of {LARGEST_LOAD} "
                f"for each warp along them, and {STATIC_SHARED_BYTES} bytes hold them"
            )

    @property
    def threads(self) -> int:
        return self.across * self.along * WARP

    def shared_words(self, inputs_per_word: int = PAIR) -> int:
        """x in words, and in its place at the end the sums of the warps."""
        sums = self.threads * self.row_tiles * 4 if self.along > 1 else 0
        return max(self.row_tiles * COLUMNS * self.row_words(inputs_per_word), sums)

    def row_words(self, inputs_per_word: int = PAIR) -> int:
        return self.chunk // inputs_per_word + PADDING


class FewRows:
    """Emits the steps of one block."""

    inputs_per_word = PAIR

    def __init__(
        self, tiling: FewRowsTiling, x: Inputs, epilogue: Epilogue, block: Expr, thread: Expr
    ) -> None:
        self.tiling, self.epilogue, self.thread = tiling, epilogue, thread
        self.x = replace(x, scale=self._norm_scale)
        self.weights = weights = epilogue.weights
        self.at = Lane.of(thread)
        self.across = tirx.floordiv(self.at.warp, tiling.along)
        self.along = tirx.floormod(self.at.warp, tiling.along)
        first = block * (ROWS * tiling.across) + index(self.across * ROWS + self.at.g)
        last = index(weights.spec.out_features - 1)
        self.first = let(first, "int64")
        self.rows = [let(minimum(self.first + 8 * half, last), "int64") for half in range(2)]
        self.row_words = tiling.row_words(self.inputs_per_word)
        self.shared_words = tiling.shared_words(self.inputs_per_word)
        self.shared = shared((self.shared_words,), "uint32")
        if x.norm is not None:
            self.norm_scales = shared((tiling.row_tiles * COLUMNS,))
        self.sums = [zeros(4) for _ in range(tiling.row_tiles)]
        self.chunk_loads = tiling.chunk // weights.inputs_per_load
        self.own_loads = self.chunk_loads // tiling.along
        assert self.own_loads * tiling.along == self.chunk_loads, tiling

    def run(self) -> None:
        chunks = -(-self.weights.loads // self.chunk_loads)
        with strided(self.thread, self.shared_words, self.tiling.threads) as i:
            T.buffer_store(self.shared, tirx.const(0, "uint32"), [i])
        self.x.write_scales(self._write_norm_scale, self.thread, self.tiling.threads // WARP)
        with T.serial(index(chunks)) as chunk:
            loaded = [self._load(chunk, own) for own in range(self.own_loads)]
            barrier()  # the last chunk of x has been read
            self._stage(chunk)
            barrier()
            for own, (fragments, scales) in enumerate(loaded):
                with otherwise_if(self._exists(chunk, own)):
                    self._multiply(own, fragments, scales)
        if self.tiling.along > 1:
            barrier()
            self._add_up()
        with otherwise_if(self.along == 0):
            self.epilogue.store(self.first, self._own_sums())

    def _write_norm_scale(self, row: Expr, scale: Expr) -> None:
        T.buffer_store(self.norm_scales, scale, [self._norm_place(row)])

    def _norm_scale(self, row: Expr) -> Expr:
        """The barrier before a chunk of x is put into shared memory comes between the two."""
        return let(self.norm_scales[self._norm_place(row)])

    def _norm_place(self, row: Expr) -> Expr:
        """The row, in words that tell TVM how many there may be."""
        return tirx.floormod(int32(row), self.tiling.row_tiles * COLUMNS)

    def _load_number(self, own: int) -> Expr:
        """Which load of a chunk it is: neighbours belong to different warps."""
        return self.along + own * self.tiling.along

    def _exists(self, chunk: Expr, own: int) -> Expr:
        return chunk * self.chunk_loads + index(self._load_number(own)) < self.weights.loads

    def _load(self, chunk: Expr, own: int) -> tuple[list[Buffer], list[Buffer]]:
        """A lane's 16 bytes of both its rows, and their scales."""
        fragments = [words(LANE_WORDS) for _ in range(2)]
        scales: list[Buffer] = []
        last = index(self.weights.loads - 1)
        number = chunk * self.chunk_loads + index(self._load_number(own))
        number = let(minimum(number, last), "int64")
        for fragment, row in zip(fragments, self.rows, strict=True):
            emit("load16", pointer(fragment, 0), self.weights.pointer(row, number, self.at.t))
        if self.weights.has_group_scales:
            scales = [self.weights.load_scales(row, number) for row in self.rows]
        return fragments, scales

    def _stage(self, chunk: Expr) -> None:
        """Put the chunk's inputs of all rows into shared memory, in pairs of 16 bits."""
        tiling, width = self.tiling, self.weights.spec.in_features
        pairs = tiling.chunk // 2
        with T.serial(self.epilogue.n) as row:
            with strided(self.thread, pairs, tiling.threads) as i:
                k = let(chunk * tiling.chunk + i * 2, "int64")
                low, high = (self.x.value(row, at, at < width) for at in (k, k + 1))
                place = int32(row) * self.row_words + int32(i)
                T.buffer_store(self.shared, pair(low, high, self.weights.dtype), [place])

    def _multiply(self, own: int, fragments: list[Buffer], loaded: list[Buffer]) -> None:
        per_load = self.weights.units_per_load
        for number in range(per_load):
            upper, lower = (self.weights.fragment(fragment, number) for fragment in fragments)
            unit = self._load_number(own) * per_load + number
            factors = [self.weights.scale(two, number) for two in loaded for _ in range(2)]
            for tile, sums in enumerate(self.sums):
                right = words(LANE_WORDS)
                row = self.at.g + tile * COLUMNS
                place = row * self.row_words + unit * UNIT_WORDS + self.at.t * LANE_WORDS
                emit("load_shared16", pointer(right, 0), pointer(self.shared, place))
                scales = factors or self._row_scales(tile, unit)
                add_product(self.weights, sums, (upper, lower), right, scales)

    def _row_scales(self, tile: int, unit: Expr) -> list[Expr]:
        """What a lane's four sums of a unit are multiplied by, if x has scales."""
        return []

    def _add_up(self) -> None:
        """The first of the warps along the inputs gets the sum, always in the same order."""
        tiling = self.tiling
        count = 4 * tiling.row_tiles

        def place(along: Expr, i: int) -> Expr:
            return ((self.across * tiling.along + along) * count + i) * WARP + self.at.lane

        for i in range(count):
            bits = tirx.reinterpret("uint32", self.sums[i // 4][i % 4])
            T.buffer_store(self.shared, bits, [place(self.along, i)])
        barrier()
        for i in range(count):
            total = let(tirx.const(0.0, "float32"))
            for other in range(tiling.along):
                bits = self.shared[place(tirx.const(other, "int32"), i)]
                total = let(total + tirx.reinterpret("float32", bits))
            T.buffer_store(self.sums[i // 4], total, [i % 4])

    def _own_sums(self) -> list[tuple[Expr, tuple[Expr, Expr]]]:
        """A lane's rows of x, each with the sums of its two features."""
        return [
            (index(self.at.t * 2 + (tile * COLUMNS + column)), (sums[column], sums[2 + column]))
            for tile, sums in enumerate(self.sums)
            for column in range(2)
        ]


def multiply_few_rows(
    kernel: type[FewRows], tiling: FewRowsTiling, x: Inputs, epilogue: Epilogue
) -> None:
    """Emit the kernel for 1 <= n <= 8 * row_tiles."""
    spec = epilogue.weights.spec
    blocks = index(-(-spec.out_features // (ROWS * tiling.across)))
    with launch(blocks, tiling.threads) as (block, thread):
        kernel(tiling, x, epilogue, block, thread).run()
