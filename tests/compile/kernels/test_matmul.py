"""The linear kernel against its float64 meaning: every format, every target, ragged sizes."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ingot.compile.kernels import matmul
from ingot.compile.kernels.activation.reference import reference as activation_reference
from ingot.compile.kernels.matmul import LinearSpec, cpu, reference
from ingot.compile.kernels.matmul.cuda import few_rows_tilings
from ingot.compile.kernels.matmul.cuda_plain import SMALL_ROWS
from ingot.compile.kernels.matmul.spec import has_tensor_layout
from ingot.compile.kernels.tensor_core import COLUMNS
from ingot.compile.schemes import FORMATS, formats_for
from ingot.targets import Target, detect_cpu, load_targets
from tests.compile.kernels.conftest import compile_kernel, compile_op
from tests.tolerances import assert_close

# Below, at and beyond a block of 32 columns or a group of 32 inputs, and a prime or two.
SIZES = ((1, 32), (31, 37), (64, 96), (100, 130))
# Every remainder of a tile, a full tile, several tiles, several chunks.
ROWS = (0, 1, 2, 3, 5, 8, 17, 33, 250)
# An emulated GPU is slow: two sizes with several steps along the inputs, a number for each kernel.
GPU_SIZES, GPU_ROWS = ((31, 37), (100, 300)), (0, 1, 3, 9, 17, 130)
TARGETS = load_targets()
CASES = [
    *itertools.product(("cpu:x86-64-v3", "cpu:znver4"), formats_for("cpu"), ("float32",)),
    *itertools.product(("cpu:znver4",), ("q8", "q6", "q8_g32", "q4_s128"), ("int8",)),
    *itertools.product(("cpu:x86-64-v3", "cpu:x86-64-v4"), ("q4_s128",), ("int8",)),
    *itertools.product(("cuda:sm_90",), formats_for("cuda"), ("int8",)),
    ("cuda:sm_89", "f8", "float8"),
]


def runnable(target: Target) -> bool:
    return set(target.features) <= set(detect_cpu().features)


def float32(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def row_limits(spec: LinearSpec, target: Target) -> tuple[int, ...]:
    """The numbers of rows up to which one kernel of a GPU is taken."""
    if not has_tensor_layout(spec, target):
        return (SMALL_ROWS,)
    return tuple(tiling.row_tiles * COLUMNS for tiling in few_rows_tilings(target))


@pytest.mark.parametrize(("target_name", "code", "activations"), CASES)
def test_linear_is_its_reference_and_rows_are_independent(
    target_name: str, code: str, activations: Any
) -> None:
    target = TARGETS[target_name]
    sizes, rows = (GPU_SIZES, GPU_ROWS) if target.kind == "cuda" else (SIZES, ROWS)
    for number, (out_features, in_features) in enumerate(sizes):
        has_bias = number % 2 == 0
        spec = LinearSpec(out_features, in_features, FORMATS[code], activations, has_bias)
        weight = float32(out_features, in_features, seed=1)
        bias = float32(out_features, seed=2) if has_bias else None
        x = float32(max(rows), in_features, seed=3)
        if in_features > 64:
            x[4, 32:64] = 0  # a group without a scale
        run = compile_op("matmul", spec, target)
        if not runnable(target):
            continue
        weights = [*matmul.pack(weight, spec, target), *([] if bias is None else [bias])]
        really = matmul.effective_activations(spec, target)
        want = reference.linear(x, weight, bias, spec.format, really)
        scale = float(np.abs(want).max())
        whole = None
        for n in sorted(rows, reverse=True):
            got = run(x[:n], *weights, np.full((n, out_features), np.nan, np.float32))[-1]
            assert_close(got, want[:n], "linear", scale)
            # On a GPU each range of rows has a kernel of its own, with its own order of sums.
            limits = row_limits(spec, target) if target.kind == "cuda" else ()
            if whole is None or any(n <= limit < len(whole) for limit in limits):
                whole = got
            # Whatever comes with a row, its result is the same to the last bit.
            np.testing.assert_array_equal(got, whole[:n])


def test_inputs_that_float16_cant_hold_become_its_largest(gpu_target: Target) -> None:
    """Infinities would be not-a-number times the zeros that pad a row."""
    spec = LinearSpec(16, 70, FORMATS["f16"], "int8", has_bias=False)
    weight, x = float32(16, 70, seed=1), float32(65, 70, seed=2)
    x[:, 3], x[:, 5] = 1e5, -1e9
    run, packed = compile_op("matmul", spec, gpu_target), matmul.pack(weight, spec, gpu_target)
    want = reference.linear(x, weight, None, spec.format, "float16")
    for n in (1, 65):
        got = run(x[:n], *packed, np.full((n, 16), np.nan, np.float32))[-1]
        assert_close(got, want[:n], "linear", float(np.abs(want).max()))


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(
    ("target_name", "code"),
    [
        *itertools.product(("wide",), ("f32", "bf16", "q8", "q4_s128")),
        *itertools.product(("gpu",), ("f16", "q8", "q4_s128")),
    ],
)
def test_a_gate_is_applied_to_the_same_sums(
    target_name: str, code: str, has_bias: bool, request: pytest.FixtureRequest
) -> None:
    """Bit for bit the sums of the plain kernel, then the activation."""
    target: Target = request.getfixturevalue(f"{target_name}_target")
    run, runs, inputs = matmul.gate_run(target), 3, 96
    rows = 2 * runs * run
    plain = LinearSpec(rows, inputs, FORMATS[code], "int8", has_bias)
    gated = replace(plain, gate="silu")
    weights = [*matmul.pack(float32(rows, inputs, seed=1), plain, target)]
    weights += [float32(rows, seed=2)] if has_bias else []
    run_plain = compile_op("matmul", plain, target)
    run_gated = compile_op("matmul", gated, target)
    for n in (0, 1, 8, 33, 70):
        x = float32(n, inputs, seed=3)
        sums = run_plain(x, *weights, np.empty((n, rows), np.float32))[-1]
        got = run_gated(x, *weights, np.full((n, gated.width), np.nan, np.float32))[-1]
        gate, up = np.moveaxis(sums.reshape(n, runs, 2, run), 2, 0).reshape(2, n, gated.width)
        want = activation_reference("silu", gate, up)
        assert_close(got, want, "activation", max(1.0, float(np.abs(sums).max(initial=0)) ** 2))


@pytest.mark.parametrize(
    ("target_name", "code"), [("cpu:cascadelake", "q8"), ("cpu:x86-64-v4", "f32")]
)
def test_linear_compiles_for_other_targets(target_name: str, code: str) -> None:
    target = TARGETS[target_name]
    compile_kernel(cpu.build(LinearSpec(64, 96, FORMATS[code], "int8", False), target), target)


@pytest.mark.parametrize(
    ("target_name", "used"),
    [
        ("cpu:x86-64-v3", {"q4_s128"}),
        ("cpu:x86-64-v4", {"q4_s128"}),
        ("cpu:cascadelake", {"q8", "q6", "q8_g32", "q4_s128"}),
        ("cpu:znver4", {"q8", "q6", "q8_g32", "q4_s128"}),
        ("cpu:neoverse-n1", {"q8", "q6", "q8_g32", "q4_s128"}),
    ],
)
def test_int8_is_used_where_an_instruction_gains_by_it(target_name: str, used: set[str]) -> None:
    for code in formats_for("cpu"):
        spec = LinearSpec(64, 64, FORMATS[code], "int8", False)
        really = matmul.effective_activations(spec, TARGETS[target_name])
        assert (really == "int8") == (code in used), code


def test_rows_that_are_no_numbers_show(wide_target: Target) -> None:
    """A NaN or an infinity in a row makes that row NaN, and no other; int8 would hide it."""
    spec = LinearSpec(32, 96, FORMATS["q4_s128"], "int8", False)
    x = float32(4, 96, seed=3)
    x[1, 40], x[3, 95] = np.nan, np.inf
    run = compile_kernel(cpu.build(spec, wide_target), wide_target)
    packed = matmul.pack(float32(32, 96, seed=1), spec, wide_target)
    got = run(x, *packed, np.zeros((4, 32), np.float32))[-1]
    assert np.isfinite(got[[0, 2]]).all()
    assert not np.isfinite(got[[1, 3]]).any()


def test_pair_dot_holds_the_largest_sum(narrow_target: Target) -> None:
    """Every code 15 and every activation 127: the int16 lanes are as full as they can be."""
    spec = LinearSpec(16, 64, FORMATS["q4_s128"], "int8", False)
    weight = np.full((16, 64), 7.0, np.float32)
    weight[:, ::32] = -8.0  # makes the scale 1
    x = np.ones((3, 64), np.float32)
    run = compile_kernel(cpu.build(spec, narrow_target), narrow_target)
    packed = matmul.pack(weight, spec, narrow_target)
    got = run(x, *packed, np.empty((3, 16), np.float32))[-1]
    want = reference.linear(x, weight, None, spec.format, "int8")
    assert_close(got, want, "linear", float(np.abs(want).max()))


def test_extreme_activations_stay_finite(wide_target: Target) -> None:
    """Groups of denormals, of one huge value, of zeros."""
    spec = LinearSpec(32, 96, FORMATS["q4_s128"], "int8", False)
    weight = float32(32, 96, seed=1)
    x = np.zeros((3, 96), np.float32)
    x[0] = 1e-42
    x[1, 5] = 1e30
    run = compile_kernel(cpu.build(spec, wide_target), wide_target)
    packed = matmul.pack(weight, spec, wide_target)
    got = run(x, *packed, np.empty((3, 32), np.float32))[-1]
    really = matmul.effective_activations(spec, wide_target)
    want = reference.linear(x, weight, None, spec.format, really)
    assert_close(got[1], want[1], "linear", float(np.abs(want).max()))
    assert np.abs(got[[0, 2]]).max() < 1e-30
