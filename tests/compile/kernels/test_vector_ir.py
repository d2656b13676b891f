"""The vocabulary that kernels are written in: pieces of a row, casts, reductions, loops."""

import numpy as np
import pytest

from ingot.compile.kernels.vector_ir import (
    NUM_CHAINS,
    T,
    accumulate_row,
    count,
    for_pieces,
    index,
    kernel,
    load,
    narrow,
    pieces,
    pool_dtype,
    reduce_max,
    reduce_sum,
    rows_in_parallel,
    store,
    widen,
)
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_kernel, normal, on_cpus
from tests.tolerances import assert_close


@pytest.mark.parametrize("width", [0, 1, 7, 8, 15, 16, 17, 80, 131])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_pieces_tile_the_row(width: int, lanes: int) -> None:
    cut = pieces(width, lanes)
    assert [offset for offset, _ in cut] == [sum(n for _, n in cut[:i]) for i in range(len(cut))]
    assert sum(n for _, n in cut) == width
    assert all(n <= lanes and n & (n - 1) == 0 for _, n in cut)


@on_cpus
@pytest.mark.parametrize("width", [5, 64, 131, 1027])
def test_rows_are_visited_once(width: int, target: Target) -> None:
    """More elements than wake the threads, in rows of odd widths: each is written once."""
    n, lanes = count("n"), target.float32_lanes
    with kernel("add_one") as k:
        x = k.argument("x", (n, width))
        total = k.argument("total", (n,))

        def add_row(row: object) -> None:
            def add(offset: object, piece: int, _: int) -> None:
                store(x, (row, offset), load(x, (row, offset), piece) + 1, piece)

            for_pieces(width, lanes, NUM_CHAINS, add)
            row_sum = accumulate_row(width, lanes, lambda o, p, acc: acc + load(x, (row, o), p))
            T.buffer_store(total, row_sum, [row])

        rows_in_parallel(n, width, add_row)
    run = compile_kernel(k.function, target)
    for rows in (0, 1, 40_000 // width):
        x = np.round(normal(rows, width) * 8)
        got, total = run(x, np.zeros(rows, np.float32))
        np.testing.assert_array_equal(got, x + 1)
        assert_close(total, (x + 1).sum(axis=1), "elementwise", scale=width)


@on_cpus
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_widened_narrows_to_itself(dtype: str, target: Target) -> None:
    n, lanes = count("n"), target.float32_lanes
    stored = pool_dtype(dtype)
    with kernel("round_trip") as k:
        x = k.argument("x", (n, lanes), stored)
        with T.serial(n) as row:
            value = widen(load(x, (row, index(0)), lanes), dtype, lanes)
            store(x, (row, index(0)), narrow(value, dtype, lanes), lanes)
    if dtype == "float32":
        values = normal(64, lanes)
    else:  # every number but the signalling ones, which casts make quiet
        bits = np.arange(1 << 16, dtype=np.uint16)
        exponent, quiet = (0x7C00, 0x0200) if dtype == "float16" else (0x7F80, 0x0040)
        is_nan = ((bits & exponent) == exponent) & ((bits & 0x7FFF) > exponent)
        values = np.where(is_nan, bits | quiet, bits).view(stored).reshape(-1, lanes)
    got = compile_kernel(k.function, target)(values)[0]
    np.testing.assert_array_equal(got.view(np.uint8), values.view(np.uint8))


@on_cpus
def test_reductions(target: Target) -> None:
    n, lanes = count("n"), target.float32_lanes
    with kernel("reduce") as k:
        x = k.argument("x", (n, lanes))
        out = k.argument("out", (n, 2))
        with T.serial(n) as row:
            vector = load(x, (row, index(0)), lanes)
            T.buffer_store(out, reduce_sum(vector, lanes), [row, 0])
            T.buffer_store(out, reduce_max(vector, lanes), [row, 1])
    x = np.round(normal(9, lanes) * 100)
    got = compile_kernel(k.function, target)(x, np.zeros((9, 2), np.float32))[-1]
    np.testing.assert_array_equal(got, np.stack([x.sum(axis=1), x.max(axis=1)], axis=1))
