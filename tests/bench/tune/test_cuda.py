"""What is searched on a GPU: a size that changes, changes no result; the search runs emulated."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingot.bench.tune.cuda import Shapes, tunables
from ingot.bench.tune.trial import Call
from ingot.compile.kernels.matmul.cuda import few_rows_tilings
from ingot.compile.kernels.matmul.spec import LinearSpec
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.schemes import FORMATS
from ingot.targets import TargetError, load_targets
from ingot.targets.target import Size
from ingot.targets.tuned import CUDA_PARAMETERS, find_tuning, with_tuning
from tests.emulated_gpu.emulator import build_driver, environment
from tests.emulated_gpu.kernels import compile_cuda_kernel

ROOT = Path(__file__).resolve().parents[3]
TARGET = load_targets()["cuda:sm_90"]
LINEAR = LinearSpec(80, 300, FORMATS["q4_s128"], "int8", has_bias=True)
ATTENTION = PagedAttentionSpec(4, 2, 32, 32, 32**-0.5, kv_dtype="bfloat16")
SHAPES = Shapes("a test", (LINEAR,), (ATTENTION,))
SCALE = 16


def test_every_size_has_a_trial() -> None:
    found = {tunable.name: tunable for tunable in tunables(TARGET, SHAPES, SCALE)}
    assert set(found) == set(CUDA_PARAMETERS) - {"matmul_wgmma_rows"}
    assert all(len(tunable.all_sizes) > 2 for tunable in found.values())
    by_guesses = replace(TARGET, tuned=tuple((name, t.guess) for name, t in found.items()))
    assert few_rows_tilings(by_guesses) == few_rows_tilings(TARGET)
    wgmma = {t.name: t for t in tunables(load_targets()["cuda:sm_90a"], SHAPES, SCALE)}
    assert set(wgmma) == set(CUDA_PARAMETERS) - {"matmul_tile"}
    assert wgmma["matmul_wgmma_rows"].all_sizes == (128, 256)


def test_float32_has_no_sizes() -> None:
    linear, attention = (
        replace(LINEAR, format=FORMATS["f32"]),
        replace(ATTENTION, kv_dtype="float32"),
    )
    assert tunables(TARGET, Shapes("float32", (linear,), (attention,)), SCALE) == ()


def results(calls: dict[str, Call], sizes: dict[str, Size]) -> dict[str, np.ndarray]:
    target = replace(TARGET, tuned=tuple(sizes.items()))
    of_specs = {call.spec: call for call in calls.values()}  # compiled once each
    kernels = {
        spec: compile_cuda_kernel(call.build(target), target) for spec, call in of_specs.items()
    }
    return {
        name: kernels[call.spec](*call.arguments, np.full(call.out_shape, np.nan, np.float32))[-1]
        for name, call in calls.items()
    }


def test_sizes_change_no_more_than_the_order_of_sums() -> None:
    found = tunables(TARGET, SHAPES, SCALE)
    calls = {f"{t.name} {i}": call for t in found for i, call in enumerate(t.calls)}
    others = {t.name: [size for size in t.all_sizes if size != t.guess][-1] for t in found}
    guessed, changed = results(calls, {}), results(calls, others)
    for name, values in guessed.items():
        largest = np.abs(values).max()
        np.testing.assert_allclose(changed[name], values, atol=4e-3 * largest, err_msg=name)


def test_a_tiling_that_does_not_fit_is_refused() -> None:
    for sizes in (
        (1, 8, 1000, 4), (1, 16, 1024, 4), (2, 8, 1 << 15, 4), (8, 8, 1024, 4),  # inputs, threads
        (2, 4, 512, 1), (2, 4, 512, 64),  # stages
    ):  # fmt: skip
        with pytest.raises(TargetError, match="a matmul of few rows can't have"):
            few_rows_tilings(replace(TARGET, tuned=(("matmul_16_rows", sizes),)))


def test_few_rows_may_end_earlier() -> None:
    for n, row_tiles in ((16, [1, 2]), (32, [1, 2, 4]), (64, [1, 2, 8])):
        target = replace(TARGET, tuned=(("matmul_most_few_rows", n),))
        assert [tiling.row_tiles for tiling in few_rows_tilings(target)] == row_tiles


def run_tune(folder: Path, *names: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.emulated_gpu.tune", folder / "tuned", *names],
        env=environment(build_driver(folder), **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_a_gpus_table_is_written_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated GPU takes a millisecond for each kernel, so the fewest kernels win: walking
    whole contexts, where nothing is to be combined."""
    done = run_tune(tmp_path, "attention_split_rows")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["target"] == "cuda:sm_90" and "8 billion" in told["shapes"]
    (searched,) = told["searched"]
    assert [c["best_s"] for c in searched["candidates"]] == pytest.approx([2e-3, 3e-3, 4e-3])
    assert searched["chosen"] == 16

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data" / "ingot").mkdir(parents=True)
    (tmp_path / "tuned").rename(tmp_path / "data" / "ingot" / "tuned")
    tuned = with_tuning(TARGET, find_tuning(TARGET))
    assert tuned.size("attention_split_rows", 64) == 16


def test_a_gpu_is_tuned_for_itself(tmp_path: Path) -> None:
    done = run_tune(tmp_path, "attention_span", EMULATED_GPU_CAPABILITY="75")
    assert done.returncode == 2 and done.stdout == ""
    assert "this machine's GPU (sm_75) can't run cuda:sm_90" in done.stderr
