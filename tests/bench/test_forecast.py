"""A forecast from a toy manifest and round limits, against figures worked out by hand."""

import pytest

from ingot.bench.forecast import chunks, forecast_memory, forecast_times
from ingot.bench.limits.record import Limits
from ingot.bench.profile.case import Case
from ingot.errors import IngotError, UsageError
from ingot.runtime.artifact import manifest as records
from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.artifact.work import WorkRecord


@pytest.fixture
def manifest(toy_manifest: Manifest) -> Manifest:
    """One layer: a linear of 20 MB that takes 80 Mop a token, and attention over 1 kB a token."""
    linear = WorkRecord(
        kernel="linear",
        op="matmul",
        place="up",
        calls=(0,),
        weight_bytes=20_000_000,
        operations={"n": 80_000_000},
        arithmetic="int8",
        parallel_regions=2,
    )
    attention = WorkRecord(
        kernel="paged_attention",
        op="paged_attention",
        place="paged_attention",
        calls=(1,),
        activation_bytes={"n": 4000},
        kv_bytes={"context": 1024},
        operations={"pairs": 100},
    )
    slot = records.KVSlotRecord(kv_heads=2, key_dim=128, value_dim=128, window=0, dtype="bfloat16")
    return toy_manifest.model_copy(update={"work": (linear, attention), "kv_slots": (slot,)})


def test_memory_is_weights_pages_and_a_workspace(manifest: Manifest) -> None:
    found = forecast_memory(manifest, context=17, batch=3)
    assert found.kv_per_token == 2 * 2 * (128 + 128)
    assert found.kv == 3 * 2 * 16 * found.kv_per_token, "whole pages of 16 tokens"
    assert found.workspace == 17 * 4000 + 2 * 4 * 10 * 17 + 4 * 3 * 10
    assert found.total == found.weights + found.kv + found.workspace


def test_a_workspace_that_was_planned_is_known(manifest: Manifest) -> None:
    planned = {"step": {"1": 64, "n": 100, "b*p": 4}, "sample": {"m": 8}, "trace": {"n": 9999}}
    step = manifest.step.model_copy(update={"workspace": planned})
    found = forecast_memory(manifest.model_copy(update={"step": step}), 17, 3, step_tokens=40)
    assert found.workspace == 64 + 100 * 40 + 4 * 3 * 2 + 8 * 3


def test_decode_is_bound_by_bytes_and_prefill_by_operations(
    manifest: Manifest, limits: Limits
) -> None:
    found = forecast_times(manifest, limits, context=50, batch=1)
    # 20 MB and 50 kB at 80 GB/s beyond half of the L3, 4 kB at 200 GB/s; 2 calls and 2 regions
    decode_s = 20.0e6 / 20e9 + 50 * 1024 / 20e9 + 4000 / 200e9 + 2 * 1e-6 + 2 * 5e-6
    assert found.tpot_s == pytest.approx(decode_s)
    prefill_s = 50 * 80e6 / 800e9
    assert found.ttft_s == pytest.approx(prefill_s, rel=0.02)
    assert forecast_times(manifest, limits, 50, 4).tpot_s < 1.2 * found.tpot_s


@pytest.mark.parametrize(
    ("context", "batch", "expected"),
    [
        (100, 1, [Case("prefill", 100, 1, 100)]),
        (30, 7, [Case("prefill", 30, 3, 30)] * 2 + [Case("prefill", 30, 1, 30)]),
        (130, 1, [Case("prefill", 100, 1, 100), Case("prefill", 30, 1, 130)]),
        (200, 2, [Case("prefill", 100, 1, 100), Case("prefill", 100, 1, 200)] * 2),
    ],
)
def test_prompts_are_read_as_the_engine_reads_them(
    context: int, batch: int, expected: list[Case]
) -> None:
    assert chunks(context, batch, step_tokens=100) == expected


def test_what_can_not_be_forecast(manifest: Manifest, limits: Limits) -> None:
    with pytest.raises(UsageError, match="101 tokens; the artifact holds 1 to 100"):
        forecast_memory(manifest, 101, 1)
    with pytest.raises(IngotError, match="doesn't say what its kernels do"):
        forecast_times(manifest.model_copy(update={"work": ()}), limits, 10, 1)
    gpu = manifest.target.model_copy(update={"kind": "cuda"})
    with pytest.raises(IngotError, match="for CPUs only"):
        forecast_times(manifest.model_copy(update={"target": gpu}), limits, 10, 1)
