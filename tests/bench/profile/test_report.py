"""Times and work become rows, sentences and a table; the machine's figures are round."""

from dataclasses import asdict, replace

import pytest
from rich.console import Console

from ingot.bench.limits.record import Limits
from ingot.bench.profile.case import decode
from ingot.bench.profile.measure import Timings
from ingot.bench.profile.report import Profile, explain, load_of, make_profile
from ingot.bench.profile.table import render_profile
from ingot.errors import IngotError
from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.artifact.work import WorkRecord

# 200 MB of weights at 20 GB/s are 10 ms; 100 Mop at 800 Gop/s are 125 us.
LINEAR = WorkRecord(
    kernel="linear",
    op="matmul",
    place="model.layers.up",
    label="10x10 q8_g32, int8",
    calls=(0, 2),
    weight_bytes=200_000_000,
    activation_bytes={"n": 2_000},
    operations={"n": 100_000_000},
    arithmetic="int8",
    parallel_regions=1,
)
EXP = WorkRecord(kernel="exp", op="core", place="core", calls=(1,), operations={"n": 10})


@pytest.fixture
def manifest(limits: Limits) -> Manifest:
    from ingot.runtime.artifact import manifest as records

    return records.Manifest(
        ingot_version="0",
        model=records.ModelRecord(
            name="toy",
            source="toy",
            revision=None,
            architecture="Toy",
            model_type="toy",
            config={},
            num_parameters=1,
        ),
        target=records.TargetRecord(
            name="cpu:toy",
            kind="cpu",
            features=("avx2", "avx512f", "avx512_vnni"),
            page_size_tokens=16,
        ),
        scheme=records.SchemeRecord(
            name="w8",
            linear="q8_g32",
            embedding="q8_g32",
            head="q8_g32",
            kv_dtype="bfloat16",
            activations="int8",
        ),
        step=records.StepRecord(
            vocab_size=10, max_context_tokens=100, num_layers=2, hidden_size=10
        ),
        kv_slots=(),
        weights=(),
        files=(),
        versions={},
        work=(LINEAR, EXP),
        proof=records.ProofRecord(status="unproven"),
    )


@pytest.fixture
def timings() -> Timings:
    kernels = (("linear", 12.5e-3), ("exp", 0.1e-3), ("linear", 12.5e-3))
    others = {"vm.builtin.make_shape": (4, 0.4e-3)}
    return Timings(0.1e-3, 25.8e-3, 0.1e-3, 0.1e-3, kernels, others, 26e-3, 5, 2)


@pytest.fixture
def profile(manifest: Manifest, timings: Timings, limits: Limits) -> Profile:
    return make_profile(manifest, decode(50), timings, limits)


def test_a_row_has_its_limit(profile: Profile) -> None:
    row = profile.rows[0]
    assert (row.name, row.kind, row.calls) == ("layers.up", "matmul", 2)
    assert row.time_s == pytest.approx(25e-3)
    assert row.load is not None and row.load.operations == 200_000_000
    assert row.load.memory_s == pytest.approx(20e-3, rel=1e-5)
    assert row.load.compute_s == pytest.approx(250e-6)
    assert row.achieved == pytest.approx(0.8, rel=1e-5)
    assert row.verdict == "bandwidth-bound"
    assert row.why == "bandwidth-bound: 16 GB/s, 80% of what memory reads give"


def test_the_rows_add_up(profile: Profile) -> None:
    assert profile.covered == pytest.approx(25.8 / 26)
    assert sum(row.share for row in profile.rows) == pytest.approx(profile.covered)
    by_kind = {row.kind: row for row in profile.kinds}
    assert by_kind["overhead"].time_s == pytest.approx(0.7e-3)
    assert by_kind["matmul"].achieved == pytest.approx(0.8, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "time_s", "verdict"),
    [
        ({}, 30e-3, "bandwidth-bound"),
        ({"operations": {"n": 20_000_000_000}}, 60e-3, "compute-bound"),
        ({}, 100e-3, "below the limit"),
        ({"is_vectorised": False}, 100e-3, "unvectorised"),
        ({"op": "core"}, 100e-3, "unfused"),
        ({"weight_bytes": 1000, "operations": {"n": 10}}, 20e-6, "launch-bound"),
    ],
)
def test_every_kernel_has_a_reason(
    changes: dict[str, object], time_s: float, verdict: str, manifest: Manifest, limits: Limits
) -> None:
    record = LINEAR.model_copy(update=changes)
    one = load_of(record, decode(50), manifest, limits, resident_bytes=10**9)
    load = replace(one, memory_s=2 * one.memory_s, compute_s=2 * one.compute_s)
    word, why = explain(record, load, time_s, load.limit_s / time_s, limits)
    assert word == verdict
    assert why.startswith(f"{verdict}: ")


def test_another_step_is_refused(manifest: Manifest, timings: Timings, limits: Limits) -> None:
    with pytest.raises(IngotError, match="other kernels"):
        make_profile(manifest, decode(50), replace(timings, kernels=timings.kernels[:2]), limits)


def test_the_table_says_all_of_it(profile: Profile) -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render_profile(profile))
    text = capture.get()
    assert "toy w8, decode, batch 1, context 50: 26 ms a step on 2 threads" in text
    assert "layers.up [10x10 q8_g32, int8]" in text
    assert "The rows add up to 99.2% of the step" in text
    assert asdict(profile)["rows"][0]["load"]["bytes"] == 400_004_000
