"""Keys and values land in their slots, in the pool's type, and nowhere else."""

import numpy as np
import pytest

from ingot.compile.kernels.kv_write.reference import from_kv_dtype, reference
from ingot.compile.kernels.kv_write.spec import KvWriteSpec
from ingot.compile.kernels.paged_attention.spec import has_pairs
from ingot.compile.kernels.rope.reference import reference as rotate
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.kernels.vector_ir import pool_dtype
from ingot.runtime.artifact.kv_layout import num_slabs
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_op, in_pairs, normal
from tests.tolerances import assert_close

SPECS = (
    KvWriteSpec(2, 64, 64),
    KvWriteSpec(
        3,
        80,
        24,
        kv_dtype="bfloat16",
        page_size=16,
        key_row_width=400,
        key_column_offset=33,
        value_row_width=400,
        value_column_offset=301,
    ),
    KvWriteSpec(1, 8, 16, kv_dtype="float16", page_size=16),
    KvWriteSpec(2, 32, 48, kv_dtype="bfloat16"),  # in pairs, on a target that multiplies them
)
NUM_PAGES = 20  # more than lie side by side


def pools(spec: KvWriteSpec) -> list[np.ndarray]:
    dtype = pool_dtype(spec.kv_dtype)
    slabs = num_slabs(NUM_PAGES, spec.kv_heads)
    return [
        np.full((slabs, spec.key_dim, spec.page_size), 7, dtype),
        np.full((slabs, spec.page_size, spec.value_dim), 7, dtype),
    ]


def columns(x: np.ndarray, start: int, heads: int, width: int) -> np.ndarray:
    return x[:, start : start + heads * width].reshape(len(x), heads, width)


def random_slots(spec: KvWriteSpec, n: int) -> np.ndarray:
    slots = np.random.permutation(NUM_PAGES * spec.page_size)[:n].astype(np.int32)
    slots[1::7] = -1
    return slots


@pytest.mark.parametrize("spec", SPECS)
def test_matches_reference(spec: KvWriteSpec, target: Target) -> None:
    run = compile_op("kv_write", spec, target)
    for n in (0, 1, 2, 190):
        key, value = normal(n, spec.key_row_width), normal(n, spec.value_row_width)
        key[:1] *= 1e5  # float16 overflows to infinity
        slots = random_slots(spec, n)
        got, want = run(key, value, slots, *pools(spec))[-2:], pools(spec)
        reference(
            columns(key, spec.key_column_offset, spec.kv_heads, spec.key_dim),
            columns(value, spec.value_column_offset, spec.kv_heads, spec.value_dim),
            slots,
            *want,
            spec.kv_dtype,
        )
        if has_pairs(spec.kv_dtype, spec.key_dim, spec.value_dim, target):
            want = [in_pairs(pool) for pool in want]
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


def test_bfloat16_rounds_to_nearest_even_and_keeps_nan(target: Target) -> None:
    spec = KvWriteSpec(1, 8, 8, kv_dtype="bfloat16")
    bits = np.array(
        [0x3F808000, 0x3F818000, 0x3F808001, 0x7F800000, 0xFF800000, 0x7F800001, 0x7FFFFFFF, 0],
        np.uint32,
    )
    row = bits.view(np.float32).reshape(1, 8)
    got = compile_op("kv_write", spec, target)(row, row, np.zeros(1, np.int32), *pools(spec))[-1][
        0, 0
    ]
    assert got[:5].tolist() == [0x3F80, 0x3F82, 0x3F81, 0x7F80, 0xFF80]
    assert np.isnan(from_kv_dtype(got[5:7], "bfloat16")).all()
    assert got[7] == 0


def test_rotates_the_key_on_its_way(target: Target) -> None:
    rope = RopeSpec(2, 16, 8, row_width=40, column_offset=3)
    spec = KvWriteSpec(
        2, 16, 16, key_row_width=40, key_column_offset=3, value_row_width=32, rope=rope
    )
    n = 33
    key, value = normal(n, 40), normal(n, 32)
    cos, sin = normal(n, 8), normal(n, 8)
    slots = random_slots(spec, n)
    got, want = (
        compile_op("kv_write", spec, target)(key, value, slots, cos, sin, *pools(spec)),
        pools(spec),
    )
    rotated = rotate(rope, key, cos, sin).astype(np.float32).reshape(n, 2, 16)
    reference(rotated, value.reshape(n, 2, 16), slots, *want, "float32")
    assert_close(got[-2], want[0], "elementwise")
    np.testing.assert_array_equal(got[-1], want[1])
