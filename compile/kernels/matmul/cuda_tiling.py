"""How the kernel for few rows cuts a weight matrix into blocks, and what a block has on its way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingot.compile.kernels.cuda_ir import WARP
from ingot.compile.kernels.matmul.cuda_splits import shares
from ingot.compile.kernels.matmul.cuda_weights import Weights
from ingot.compile.kernels.matmul.spec import GROUP
from ingot.compile.kernels.tensor_core import COLUMNS, LANE_WORDS, ROWS
from ingot.targets import TargetError

LARGEST_LOAD = 4 * GROUP  # inputs of four lanes' 16 bytes each, of 4-bit weights
MAX_THREADS = 1024  # of a block, on every GPU
PAIR = 2  # inputs of 16 bits in a word; fewer bits take less room
PADDING = 16  # words after a row of x, so that two rows of a warp's read are in different banks


@dataclass(frozen=True, slots=True)
class FewRowsTiling:
    """`row_tiles` * 8 rows of x; `across` * `along` warps; `chunk` inputs in shared memory, and
    `stages` of each lane's 16 bytes of weights."""

    row_tiles: int
    across: int
    along: int
    chunk: int
    stages: int

    def __post_init__(self) -> None:
        is_whole = self.chunk % (LARGEST_LOAD * self.along) == 0
        if self.threads > MAX_THREADS or not is_whole or self.stages < 2:
            raise TargetError(
                f"a matmul of few rows can't have {self.across} x {self.along} warps, "
                f"{self.chunk} inputs in shared memory and {self.stages} stages of weights: "
                f"threads are {MAX_THREADS} at most, inputs a multiple of {LARGEST_LOAD} for each "
                f"warp along them, and stages are two at least"
            )

    @property
    def threads(self) -> int:
        return self.across * self.along * WARP

    @property
    def features(self) -> int:
        return self.across * ROWS

    @property
    def sums(self) -> int:
        """Of a tile."""
        return self.features * self.row_tiles * COLUMNS

    def tiles(self, weights: Weights) -> int:
        """Of features."""
        return -(-weights.spec.out_features // self.features)

    def shares(self, weights: Weights, enough_blocks: int) -> tuple[int, int]:
        """The blocks that share a tile's inputs, and the chunks of each."""
        chunks = -(-weights.inputs // self.chunk)
        return shares(self.tiles(weights), chunks, enough_blocks, self.sums)

    def narrowed(self, weights: Weights, enough_blocks: int) -> FewRowsTiling:
        """Tiles half as wide, if these make less than half of enough blocks: the same warps, more
        of them along the inputs."""
        count, _ = self.shares(weights, enough_blocks)
        is_enough = 2 * self.tiles(weights) * count >= enough_blocks
        if is_enough or self.across % 2 or self.chunk % (2 * self.along * LARGEST_LOAD):
            return self
        half = replace(self, across=self.across // 2, along=2 * self.along)
        return half.narrowed(weights, enough_blocks)

    def shared_words(self, inputs_per_word: int = PAIR) -> int:
        """x in words, and in its place at the end the sums of the warps."""
        sums = self.threads * self.row_tiles * 4 if self.along > 1 else 0
        return max(self.row_tiles * COLUMNS * self.row_words(inputs_per_word), sums)

    @property
    def group_sums(self) -> int:
        """Of a chunk: a group of inputs has one a row."""
        return self.chunk // GROUP * self.row_tiles * COLUMNS

    def row_words(self, inputs_per_word: int = PAIR) -> int:
        return self.chunk // inputs_per_word + PADDING

    def stage_words(self, weights: Weights) -> int:
        """What one load of all threads takes: 16 bytes of two features, and their scales."""
        return self.threads * 2 * (LANE_WORDS + weights.scale_words)

    @property
    def shared_bytes(self) -> int:
        """Of a block, at most: a norm has a word a row, 4-bit weights have sums of groups, and two
        words of scales in a load."""
        rows = self.shared_words() + self.row_tiles * COLUMNS + self.group_sums
        return 4 * (rows + self.stages * self.threads * 2 * (LANE_WORDS + 2))

    def bytes_in_flight(self, weights: Weights) -> int:
        """Of weights, that a block has asked for while it multiplies."""
        return (self.stages - 1) * self.stage_words(weights) * 4
