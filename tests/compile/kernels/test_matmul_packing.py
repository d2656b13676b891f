"""Quantizing and packing: what is stored stands for the weights, and comes back exactly."""

import itertools

import numpy as np
import pytest

from ingot.compile.kernels.matmul import LinearSpec, pack, packed_tensors, reference, unpack
from ingot.compile.kernels.matmul.packing import (
    CHUNK_ELEMENTS,
    bfloat16_to_float32,
    float32_to_bfloat16,
)
from ingot.compile.kernels.matmul.quantize import quantize
from ingot.compile.schemes import FORMATS, formats_for
from ingot.errors import CompileError
from ingot.targets import load_targets

TARGETS = load_targets()
CASES = [
    *itertools.product(formats_for("cpu"), ("cpu:x86-64-v3", "cpu:znver4")),
    *itertools.product(formats_for("cuda"), ("cuda:sm_80",)),
    ("bf16", "cpu:sapphirerapids"),  # padded to whole matrix tiles
]


def random_weight(out_features: int, in_features: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((out_features, in_features), dtype=np.float32)


@pytest.mark.parametrize(("code", "target_name"), CASES)
@pytest.mark.parametrize(("out_features", "in_features"), [(1, 32), (31, 37), (64, 96), (100, 130)])
def test_unpack_gives_back_what_is_stored(
    code: str, target_name: str, out_features: int, in_features: int
) -> None:
    target = TARGETS[target_name]
    spec = LinearSpec(out_features, in_features, FORMATS[code], "int8", False)
    weight = random_weight(out_features, in_features)
    packed = pack(weight, spec, target)
    declared = [(t.dtype, t.shape) for t in packed_tensors(spec, target)]
    assert [(p.dtype.name, p.shape) for p in packed] == declared
    stored = reference.round_weight(weight, spec.format).astype(np.float32)
    np.testing.assert_array_equal(unpack(packed, spec, target), stored)


@pytest.mark.parametrize("code", FORMATS)
def test_transposed_weight(code: str) -> None:
    """The transposition of a weight that is stored `[in, out]` is a view."""
    target = TARGETS["cpu:znver4" if code in formats_for("cpu") else "cuda:sm_90"]
    spec = LinearSpec(48, 96, FORMATS[code], "int8", False)
    weight = random_weight(48, 96)
    view = np.ascontiguousarray(weight.T).T
    for left, right in zip(pack(view, spec, target), pack(weight, spec, target), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("code", ["f32", "q8", "q4_s128"])
def test_chunks_do_not_show(code: str) -> None:
    """A matrix packed in several chunks is the blocks of its halves, one after the other."""
    target = TARGETS["cpu:znver4"]
    in_features = 4096
    rows = CHUNK_ELEMENTS // in_features * 2
    weight = random_weight(rows, in_features)
    whole = pack(weight, LinearSpec(rows, in_features, FORMATS[code], "int8", False), target)
    half = LinearSpec(rows // 2, in_features, FORMATS[code], "int8", False)
    upper = pack(weight[: rows // 2], half, target)
    lower = pack(weight[rows // 2 :], half, target)
    for together, *parts in zip(whole, upper, lower, strict=True):
        np.testing.assert_array_equal(together, np.concatenate(parts))


@pytest.mark.parametrize(
    ("code", "steps"), [("q8", 127), ("q6", 31), ("q8_g32", 127), ("q4_s128", 7)]
)
def test_error_is_at_most_so_many_steps(code: str, steps: int) -> None:
    """Half a step of the plain scale; at four bits up to three, where a rare value is clipped."""
    weight = random_weight(16, 128)
    error = np.abs(reference.round_weight(weight, FORMATS[code]) - weight).max()
    # The float16 scale is itself off by up to 2^-11.
    largest = np.abs(weight).max()
    half_steps = 3 if code == "q4_s128" else 1
    assert error <= half_steps * largest / (2 * steps) + largest * 2**-10


def test_a_superblock_is_small_integers_times_one_scale() -> None:
    weight = random_weight(8, 300) * np.float32(10) ** np.arange(-5, 3, dtype=np.float32)[:, None]
    quantized = quantize(weight, FORMATS["q4_s128"])
    multipliers, scale = quantized.multipliers, quantized.scale
    assert multipliers is not None
    assert quantized.integers.shape == (8, 384)
    assert (scale.shape, scale.dtype) == ((8, 3), np.float16)
    assert (multipliers.shape, multipliers.max()) == ((8, 12), 15)
    assert (quantized.integers.min(), quantized.integers.max()) == (-8, 7)
    # What a GPU has for each group is the same number.
    exact = multipliers.reshape(8, 3, 4) * scale.astype(np.float64)[:, :, None]
    np.testing.assert_array_equal(quantized.group_scales(), exact.reshape(8, 12))
    assert quantized.group_scales().dtype == np.float16


def test_the_sign_of_a_superblock_is_where_the_larger_weights_are() -> None:
    """-8 has no counterpart, so the side that needs it gets it."""
    weight = np.abs(random_weight(1, 128))
    for sign in (1, -1):
        quantized = quantize(sign * weight, FORMATS["q4_s128"])
        assert np.sign(quantized.scale[0, 0]) == -sign
        assert quantized.integers.min() == -8


def test_groups_of_a_superblock_may_differ() -> None:
    """A group ten times smaller than its neighbours keeps its own, finer steps."""
    weight = random_weight(64, 128)
    weight[:, 32:64] /= 10
    error = reference.round_weight(weight, FORMATS["q4_s128"]) - weight
    relative = [
        np.square(e).mean() / np.square(w).mean()
        for e, w in ((error[:, 32:64], weight[:, 32:64]), (error[:, :32], weight[:, :32]))
    ]
    assert relative[0] < 3 * relative[1]


def test_zeros_and_tiny_weights_do_not_divide_by_zero() -> None:
    weight = np.zeros((2, 64), np.float32)
    weight[1] = 1e-30
    for code in ("q8", "q6", "q8_g32", "q4_s128", "f8"):
        with np.errstate(all="raise", under="ignore"):
            stored = reference.round_weight(weight, FORMATS[code])
        assert np.abs(stored - weight).max() <= 1.001e-30


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    weight = random_weight(4, 32)
    weight[2, 7] = value
    with pytest.raises(CompileError, match="NaN or infinite"):
        quantize(weight, FORMATS["q4_s128"])


@pytest.mark.parametrize(("code", "value"), [("f16", 7e4), ("q4_s128", 1e6), ("q8_g32", 1e8)])
def test_values_beyond_float16_are_refused(code: str, value: float) -> None:
    weight = random_weight(4, 32)
    weight[2, 7] = value
    spec = LinearSpec(4, 32, FORMATS[code], "float32", False)
    with pytest.raises(CompileError, match="fit"):
        pack(weight, spec, TARGETS["cpu:znver4"])


def test_bfloat16_rounds_to_nearest_even() -> None:
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x7FC00001], np.uint32)
    rounded = float32_to_bfloat16(bits.view(np.float32))
    assert [hex(b) for b in rounded] == ["0x3f80", "0x3f80", "0x3f82", "0x3f81", "0x7fc0"]
    assert bfloat16_to_float32(rounded[:4]).tolist() == [1.0, 1.0, 1.015625, 1.0078125]
