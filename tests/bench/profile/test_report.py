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
    record = manifest.work[0].model_copy(update=changes)
    one = load_of(record, decode(50), manifest, limits, resident_bytes=10**9)
    load = replace(one, memory_s=2 * one.memory_s, compute_s=2 * one.compute_s)
    word, why = explain(record, load, time_s, load.limit_s / time_s, limits)
    assert word == verdict
    assert why.startswith(f"{verdict}: ")


def test_memory_is_as_fast_as_between_the_steps(
    manifest: Manifest, timings: Timings, limits: Limits
) -> None:
    between = replace(timings, memory_reads=(10e9,))
    row = make_profile(manifest, decode(50), between, limits).rows[0]
    assert row.load is not None and row.load.memory_s == pytest.approx(40e-3, rel=1e-5)
    assert row.achieved == pytest.approx(1.6, rel=1e-5)


def test_another_step_is_refused(manifest: Manifest, timings: Timings, limits: Limits) -> None:
    with pytest.raises(IngotError, match="other kernels"):
        make_profile(manifest, decode(50), replace(timings, kernels=timings.kernels[:2]), limits)


def test_what_is_no_kernel_is_said_in_one_place(profile: Profile, limits: Limits) -> None:
    overhead = profile.overhead
    assert overhead.time_s == pytest.approx(0.7e-3)
    assert overhead.share == pytest.approx(0.7 / 26)
    assert overhead.waking_s == pytest.approx(2 * limits.figure("region").best)
    assert "no kernel takes 700 µs, 2.7% of the step" in overhead.sentence


def test_the_table_says_all_of_it(profile: Profile) -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render_profile(profile))
    text = " ".join(capture.get().split())
    assert "toy w8, decode, batch 1, context 50: 26 ms a step on 2 threads" in text
    assert "layers.up [10x10 q8_g32, int8]" in text
    assert "The rows add up to 99.2% of the step" in text
    assert "that of memory" not in text
    assert "Page faults: 0.0 a step" in text
    assert profile.overhead.sentence in text
    assert asdict(profile)["rows"][0]["load"]["bytes"] == 400_004_000
