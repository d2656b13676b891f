"""The linear kernel on matrix tiles against its meaning, the tiles emulated if need be."""

import ctypes
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tvm import tirx

from ingot.compile.kernels import amx, matmul
from ingot.compile.kernels.matmul import LinearSpec, reference
from ingot.compile.kernels.vector_ir import Expr, T
from ingot.compile.schemes import FORMATS
from ingot.runtime.amx import allow_tiles
from ingot.targets import Target, detect_cpu, load_targets
from tests.compile.kernels.conftest import compile_op
from tests.tolerances import assert_close

TARGETS = load_targets()
TILED, VECTORS = TARGETS["cpu:sapphirerapids"], TARGETS["cpu:znver4"]
# Below and beyond a block of outputs; groups in pairs and one left, a ragged one; ragged tiles.
SIZES = ((31, 37), (100, 130))
# Below, at and beyond one and two tiles of rows; several chunks.
ROWS = (0, 1, 11, 12, 16, 17, 32, 33, 50, 250)

pytestmark = pytest.mark.skipif(
    not set(VECTORS.features) - {"sse4a"} <= detect_cpu().features,
    reason="the kernels' vectors need AVX-512 with VNNI and bfloat16",
)


class Emulator:
    """The counters of `amx.c`."""

    def __init__(self, library: Path) -> None:
        # RTLD_GLOBAL: compiled kernels find the functions by name.
        self._library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)

    def read(self, name: str) -> int:
        return ctypes.c_int.in_dll(self._library, name).value


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    library = tmp_path_factory.mktemp("amx") / "libamx.so"
    source = Path(__file__).with_name("amx.c")
    flags = ["-O2", "-ffp-contract=off", "-mfma", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(library), str(source)], check=True)
    return Emulator(library)


@pytest.fixture(params=["emulated", "real"])
def target(
    request: pytest.FixtureRequest, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Target]:
    """Tiles in the code, of the CPU or of `amx.c`."""
    if request.param == "real":
        if detect_cpu().missing(TILED):
            pytest.skip("this CPU has no AMX")
        allow_tiles(TILED.features)
        yield TILED
        return

    def call(name: str, *args: Expr) -> None:
        T.evaluate(tirx.call_extern("int32", f"emulated_{name}", *args))

    monkeypatch.setattr(amx, "_call", call)
    before = emulator.read("multiplied")
    yield replace(TILED, llvm_cpu=VECTORS.llvm_cpu if has_sse4a() else "cooperlake")
    assert emulator.read("multiplied") > before
    assert emulator.read("faults") == 0
    assert emulator.read("held") == 0, "a thread keeps its tiles"


def has_sse4a() -> bool:
    return "sse4a" in detect_cpu().features


def normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("code", ["bf16", "q8", "q6", "q4_s128"])
def test_tiles_are_the_reference_and_rows_are_independent(code: str, target: Target) -> None:
    for number, (outputs, inputs) in enumerate(SIZES):
        has_bias = number % 2 == 0
        spec = LinearSpec(outputs, inputs, FORMATS[code], "int8", has_bias)
        weight, x = normal(outputs, inputs, seed=1), normal(max(ROWS), inputs, seed=2)
        bias = normal(outputs, seed=3) if has_bias else None
        weights = [*matmul.pack(weight, spec, target), *([] if bias is None else [bias])]
        really = matmul.effective_activations(spec, target)
        want = reference.linear(x, weight, bias, spec.format, really)
        run = compile_op("matmul", spec, target)
        whole = None
        for n in sorted(ROWS, reverse=True):
            got = run(x[:n], *weights, np.full((n, outputs), np.nan, np.float32))[-1]
            assert_close(got, want[:n], "linear", float(np.abs(want).max()))
            whole = got if whole is None else whole
            # To the last bit, tiles or vectors.
            np.testing.assert_array_equal(got, whole[:n])


@pytest.mark.parametrize("code", ["q8_g32", "q4_s128"])
def test_bytes_give_the_bits_that_vectors_give(code: str, target: Target) -> None:
    """From the same packed weights."""
    spec = LinearSpec(64, 160, FORMATS[code], "int8", False)
    weights, x = matmul.pack(normal(64, 160, seed=1), spec, VECTORS), normal(40, 160, seed=2)
    plain = replace(target, features=tuple(f for f in target.features if f != "amx_int8"))
    out = np.empty((40, 64), np.float32)
    by_tiles = compile_op("matmul", spec, target)(x, *weights, out)[-1]
    by_vectors = compile_op("matmul", spec, plain)(x, *weights, out)[-1]
    np.testing.assert_array_equal(by_tiles, by_vectors)


@pytest.mark.parametrize("code", ["bf16", "q4_s128"])
def test_a_gate_is_applied_to_the_same_sums(code: str, target: Target) -> None:
    plain = LinearSpec(96, 96, FORMATS[code], "int8", True)
    gated = replace(plain, gate="relu")
    weights = [*matmul.pack(normal(96, 96, seed=1), plain, target), normal(96, seed=2)]
    x = normal(33, 96, seed=3)
    sums = compile_op("matmul", plain, target)(x, *weights, np.empty((33, 96), np.float32))[-1]
    got = compile_op("matmul", gated, target)(x, *weights, np.empty((33, 48), np.float32))[-1]
    gate, up = np.moveaxis(sums.reshape(33, 3, 2, 16), 2, 0).reshape(2, 33, 48)
    np.testing.assert_array_equal(got, np.maximum(gate, 0) * up)
