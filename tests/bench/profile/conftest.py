"""A toy step of two kernels: its manifest, its times and its profile."""

import pytest

from ingot.bench.limits.record import Limits
from ingot.bench.profile.case import decode
from ingot.bench.profile.measure import Timings
from ingot.bench.profile.report import Profile, make_profile
from ingot.runtime.artifact import manifest as records
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
EXP = WorkRecord(
    kernel="exp",
    op="core",
    place="core",
    calls=(1,),
    activation_bytes={"n": 80},
    operations={"n": 10},
)


@pytest.fixture
def manifest(limits: Limits) -> Manifest:
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
