"""Turns an attention spec and a target into the shapes of the two register tiles."""

from __future__ import annotations

from dataclasses import dataclass

from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.vector_ir import pieces
from ingot.targets import Target

SCORE_VECTORS = 2  # vectors of key tokens a score tile holds per row
SPARE_REGISTERS = 4  # two key vectors, a broadcast query element, one free
MAX_BLOCK_ROWS = 48  # rows of q, scores and output of a block stay in L1 and L2


Chunk = tuple[tuple[int, int], ...]
"""Neighbouring columns as (offset, lanes) vectors."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Rows of a block are (token, query head of the group), cut into tiles of `tile_rows`.

    Scores: tile_rows x SCORE_VECTORS accumulators over key_dim. Output: `value_rows` (a divisor of
    tile_rows) x a chunk of `value_chunks` ((offset, lanes) vectors) accumulators over a page.
    """

    lanes: int
    block_tokens: int
    tile_rows: int
    num_tiles: int
    value_rows: int
    value_chunks: tuple[Chunk, ...]
    partial_width: int  # of a split span's row: output, then maximum and sum

    @property
    def rows(self) -> int:
        return self.tile_rows * self.num_tiles


def choose_tiles(spec: PagedAttentionSpec, target: Target, *, block_tokens: int | None) -> Tiles:
    """`block_tokens` None: as many tokens a block as keep the tiles full."""
    lanes, registers = target.float32_lanes, target.vector_registers
    most_rows = (registers - SPARE_REGISTERS) // SCORE_VECTORS
    if block_tokens is None:
        most_block_rows = target.size("attention_block_rows", MAX_BLOCK_ROWS)
        tokens = range(1, max(1, most_block_rows // spec.group) + 1)
        block_tokens = max(tokens, key=lambda t: (_fullness(t * spec.group, most_rows), t))
    num_tiles = -(-block_tokens * spec.group // most_rows)
    tile_rows = -(-block_tokens * spec.group // num_tiles)
    vectors = pieces(spec.value_dim, lanes)
    value_rows, width = _value_tile(tile_rows, len(vectors), registers)
    chunks = tuple(vectors[i : i + width] for i in range(0, len(vectors), width))
    return Tiles(
        lanes=lanes,
        block_tokens=block_tokens,
        tile_rows=tile_rows,
        num_tiles=num_tiles,
        value_rows=value_rows,
        value_chunks=chunks,
        partial_width=-(-(spec.value_dim + 2) // lanes) * lanes,
    )


def _fullness(rows: int, most_rows: int) -> float:
    """Useful rows per row of full tiles of `most_rows`."""
    return rows / (-(-rows // most_rows) * most_rows)


def _value_tile(tile_rows: int, num_vectors: int, registers: int) -> tuple[int, int]:
    """(rows, vectors) with the fewest loads per multiply that fits: rows*vectors + vectors + 2."""
    candidates = []
    for rows in range(1, tile_rows + 1):
        if tile_rows % rows:
            continue
        most = min(num_vectors, (registers - 2) // (rows + 1))
        if most:
            num_chunks = -(-num_vectors // most)
            vectors = -(-num_vectors // num_chunks)
            candidates.append(((rows + vectors) / (rows * vectors), rows, vectors))
    _, rows, vectors = min(candidates)
    return rows, vectors
