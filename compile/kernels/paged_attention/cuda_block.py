"""One block of the attention on tensor cores: its rows, its pages, its softmax.

Shared memory, in vectors of 16 bytes: the query's fragments, each lane's own; then `stages` pages
of keys `[key_dim, slots]` and values `[slots, value_dim]`, as they lie in the pools but for the
order of a row's vectors, which is turned so that eight rows of one column lie in different banks.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from ingot.compile.kernels.cuda_ir import WARP, Local, barrier, dynamic_shared, let
from ingot.compile.kernels.paged_attention.cuda_shape import VALUES, Shape, Spans, turned
from ingot.compile.kernels.paged_attention.cuda_softmax import RowPair
from ingot.compile.kernels.paged_attention.cuda_tensors import Tensors, visible_range
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.tensor_core import (
    COLUMNS,
    LANE_WORDS,
    ROWS,
    SHORT,
    Lane,
    emit,
    half_of,
    int32,
    pair,
    pointer,
    words,
    zeros,
)
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, index, otherwise_if


class BlockAttention:
    """Emits the steps of one block."""

    def __init__(
        self,
        spec: PagedAttentionSpec,
        tensors: Tensors,
        shape: Shape,
        tile: Expr,
        kv_head: Expr,
        thread: Expr,
    ) -> None:
        self.spec, self.tensors, self.shape = spec, tensors, shape
        self.kv_head, self.thread, self.at = let(kv_head, "int64"), int32(thread), Lane.of(thread)
        self.shared = dynamic_shared(shape.vectors, "uint32x4")
        self._find_rows(tile)

    def run(self) -> None:
        """Walk the whole visible context and write the output."""
        with otherwise_if(self.first_row < self.num_rows):
            self._walk(self.begin, self.end, with_sinks=True)
            for half in range(2):
                self._write(half, let(self.softmax.total(half)))

    def run_span(self, span: Expr, cut: Spans, partials: Any) -> None:
        """Walk one span and write what it adds."""
        length = let(cut.length(self.context), "int64")
        begin = let(tirx.Max(self.begin, int32(span * length)), "int32")
        end = let(tirx.Min(self.end, int32((span + 1) * length)), "int32")
        with otherwise_if(tirx.And(self.first_row < self.num_rows, begin < end)):
            self._walk(begin, end, with_sinks=False)
            for half in range(2):
                total = let(self.softmax.total(half))
                with otherwise_if(self.exists[half] == 1):
                    row = self.token[half] * self.spec.num_heads + self.head[half]
                    with otherwise_if(self.at.t == 0):
                        T.buffer_store(
                            partials.largest, self.softmax.largest[half].value, [row, span]
                        )
                        T.buffer_store(partials.totals, total, [row, span])
                    for d, value in self._outputs(half):
                        T.buffer_store(partials.outputs, value, [row, span, d])

    def _outputs(self, half: int) -> list[tuple[Expr, Expr]]:
        """A lane's value dimensions of one of its rows, with their sums."""
        return [
            (index(tile * COLUMNS + self.at.t * 2 + c), sums[2 * half + c])
            for tile, sums in enumerate(self.sums)
            for c in range(2)
        ]

    def _write(self, half: int, total: Expr) -> None:
        inverse = let(tirx.const(1.0, "float32") / total)
        with otherwise_if(self.exists[half] == 1):
            column = self.head[half] * self.spec.value_dim
            for d, value in self._outputs(half):
                T.buffer_store(self.tensors.out, value * inverse, [self.token[half], column + d])

    # --- which rows ---------------------------------------------------------------------------

    def _find_rows(self, tile: Expr) -> None:
        """The tiles of sequence s start at `query_offsets[s] * group / rows of a tile + s`."""
        spec, tensors = self.spec, self.tensors
        tile_rows, offsets = self.shape.warps * ROWS, tensors.query_offsets

        def start(s: Expr) -> Expr:
            return tirx.floordiv(index(offsets[s]) * spec.group, tile_rows) + s

        found = Local(0, "int64")
        with T.serial(tensors.b) as s:
            with otherwise_if(start(s) <= tile):
                found.set(s)
        self.sequence = let(found.value, "int64")
        first_token = let(index(offsets[self.sequence]), "int64")
        self.new = let(index(offsets[self.sequence + 1]) - first_token, "int64")
        self.context = let(index(tensors.context_lengths[self.sequence]), "int64")
        self.num_rows = let(self.new * spec.group, "int64")
        self.first_row = let((tile - start(self.sequence)) * tile_rows, "int64")
        last_row = tirx.Min(self.first_row + (tile_rows - 1), self.num_rows - 1)
        self.begin = let(int32(self._visible(self.first_row)[0]), "int32")
        self.end = let(int32(self._visible(last_row)[1]), "int32")
        self.exists, self.token, self.head = [], [], []
        self.ranges: list[tuple[Expr, Expr]] = []
        self.positions: list[Expr] = []
        for half in range(2):
            row = self.first_row + index(self.at.warp * ROWS + self.at.g + 8 * half)
            self.exists.append(let(tirx.Cast("int32", row < self.num_rows), "int32"))
            known = let(tirx.Max(tirx.Min(row, self.num_rows - 1), index(0)), "int64")
            token = let(first_token + tirx.floordiv(known, spec.group), "int64")
            self.token.append(let(tirx.Min(token, tensors.n - 1), "int64"))
            head = self.kv_head * spec.group + tirx.floormod(known, spec.group)
            self.head.append(let(head, "int64"))
            begin, end = self._visible(known)
            self.ranges.append((let(int32(begin), "int32"), let(int32(end), "int32")))
            self.positions.append(let(int32(self._position(known)), "int32"))

    def _position(self, row: Expr) -> Expr:
        return self.context - self.new + tirx.floordiv(row, self.spec.group)

    def _visible(self, row: Expr) -> tuple[Expr, Expr]:
        return visible_range(self.spec, let(self._position(row), "int64"), self.context)

    # --- pages --------------------------------------------------------------------------------

    def _walk(self, begin: Expr, end: Expr, *, with_sinks: bool) -> None:
        size, ahead = self.spec.page_size, self.shape.stages - 1
        self._stage_query()
        self.sums = [zeros(4) for _ in range(self.spec.value_dim // COLUMNS)]
        self.softmax = RowPair.of(self.spec, self.tensors, self.at, self.head, self.positions)
        self.softmax.start(with_sinks=with_sinks)
        first = let(tirx.floordiv(begin, size), "int32")
        count = let(tirx.floordiv(end + (size - 1), size) - first, "int32")
        for step in range(ahead):
            self._fetch(tirx.const(step, "int32"), first, count, begin, end)
        with T.serial(count) as step:
            emit(f"wait_copies<{ahead - 1}>")
            barrier()  # this page is there, and all have read the last one
            self._fetch(step + ahead, first, count, begin, end)
            slot = self._slot(step)
            scores = self._score(slot)
            fragments = self.softmax.weigh(scores, (first + step) * size, self.ranges, self.sums)
            self._add_values(slot, fragments)

    def _slot(self, step: Expr) -> Expr:
        place = tirx.floormod(step, self.shape.stages) * self.shape.page_vectors
        return let(place + self.shape.query_vectors, "int32")

    def _fetch(self, step: Expr, first: Expr, count: Expr, begin: Expr, end: Expr) -> None:
        """Start to copy a page, if there is one. Slots that no row sees may hold anything, and
        anything times a weight of zero need not be zero: their values become zeros."""
        spec, shape = self.spec, self.shape
        with otherwise_if(step < count):
            slab = self.tensors.slab(spec, self.sequence, index(first + step), self.kv_head)
            slot = self._slot(step)
            threads, per_row = shape.warps * WARP, spec.page_size // VALUES
            for i, guard in self._shares(shape.key_vectors, threads):
                with otherwise_if(guard):
                    d, vector = tirx.floordiv(i, per_row), tirx.floormod(i, per_row)
                    source = pointer(self.tensors.key_pool, slab, index(d), index(vector * VALUES))
                    place = slot + d * per_row + turned(d, vector, per_row)
                    emit("copy_async16", pointer(self.shared, place), source)
            per_row = spec.value_dim // VALUES
            for i, guard in self._shares(shape.page_vectors - shape.key_vectors, threads):
                with otherwise_if(guard):
                    at, vector = tirx.floordiv(i, per_row), tirx.floormod(i, per_row)
                    column = index(vector * VALUES)
                    source = pointer(self.tensors.value_pool, slab, index(at), column)
                    place = slot + shape.key_vectors + at * per_row + turned(at, vector, per_row)
                    token = (first + step) * spec.page_size + at
                    with T.If(tirx.And(token >= begin, token < end)):
                        with T.Then():
                            emit("copy_async16", pointer(self.shared, place), source)
                        with T.Else():
                            emit("clear_shared16", pointer(self.shared, place))
        emit("commit_copies")

    def _shares(self, total: int, threads: int) -> list[tuple[Expr, Expr]]:
        """This thread's numbers below `total`, each with whether it is one."""
        numbers = [part * threads + self.thread for part in range(-(-total // threads))]
        return [(i, i < total) for i in numbers]

    # --- products -----------------------------------------------------------------------------

    def _query_place(self, step: int, part: int) -> Expr:
        steps = self.spec.key_dim // ROWS
        return ((self.at.warp * steps + step) * 2 + part) * WARP + self.at.lane

    def _stage_query(self) -> None:
        """Each lane keeps its fragments of the scaled query, high parts and low parts."""
        spec = self.spec
        for step in range(spec.key_dim // ROWS):
            parts = [words(LANE_WORDS), words(LANE_WORDS)]
            for i in range(LANE_WORDS):
                half, k = i % 2, step * ROWS + i // 2 * 8
                place = (self.token[half], self.head[half])
                low, high = (
                    let(self.tensors.query_value(spec, *place, index(self.at.t * 2) + (k + c)))
                    for c in range(2)
                )
                rounded = let(pair(low, high, spec.kv_dtype), "uint32")
                first, second = (half_of(rounded, c, spec.kv_dtype) for c in range(2))
                T.buffer_store(parts[0], rounded, [i])
                rest = pair(low - first, high - second, spec.kv_dtype)
                T.buffer_store(parts[1], rest, [i])
            for part, fragment in enumerate(parts):
                place = pointer(self.shared, self._query_place(step, part))
                emit("store_shared16", place, pointer(fragment, 0))

    def _read(self, place: Expr) -> Buffer:
        read = words(LANE_WORDS)
        emit("load_shared16", pointer(read, 0), pointer(self.shared, place))
        return read

    def _read_transposed(self, start: Expr, row: int, vector: int, per_row: int) -> Buffer:
        """Two 16 x 8 right operands side by side: rows [row, row + 16), vectors vector and the
        next. Lane 8i + r points to row r of the i-th 8 x 8 matrix: upper left, lower left, ..."""
        lane = self.at.lane
        line = tirx.floormod(lane, 16) + row
        column = tirx.floordiv(lane, 16) + vector
        read = words(LANE_WORDS)
        place = start + line * per_row + turned(line, column, per_row)
        emit("load_transposed", pointer(read, 0), pointer(self.shared, place))
        return read

    def _mma(self, sums: Buffer, left: Buffer, low: Expr, high: Expr) -> None:
        name = f"mma_{SHORT[self.spec.kv_dtype]}"
        emit(name, pointer(sums, 0), *(left[i] for i in range(4)), low, high)

    def _score(self, slot: Expr) -> list[Buffer]:
        """S = Q K^T of one page, 8 slots a tile."""
        per_row = self.spec.page_size // VALUES
        scores = [zeros(4) for _ in range(per_row)]
        for step in range(self.spec.key_dim // ROWS):
            query = [self._read(self._query_place(step, part)) for part in range(2)]
            for vector in range(0, per_row, 2):
                keys = self._read_transposed(slot, step * ROWS, vector, per_row)
                for part in query:
                    self._mma(scores[vector], part, keys[0], keys[1])
                    self._mma(scores[vector + 1], part, keys[2], keys[3])
        return scores

    def _add_values(self, slot: Expr, weights: list[Buffer]) -> None:
        """O += P V of one page."""
        per_row = self.spec.value_dim // VALUES
        start = slot + self.shape.key_vectors
        for step, fragment in enumerate(weights):
            for vector in range(0, per_row, 2):
                values = self._read_transposed(start, step * ROWS, vector, per_row)
                self._mma(self.sums[vector], fragment, values[0], values[1])
                self._mma(self.sums[vector + 1], fragment, values[2], values[3])
