"""A toy step of two kernels: its manifest, its times and its profile."""

import pytest

from ingot.bench.limits.record import Limits
from ingot.bench.profile.case import decode
from ingot.bench.profile.measure import Timings
from ingot.bench.profile.report import Profile, make_profile
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
def manifest(toy_manifest: Manifest) -> Manifest:
    return toy_manifest.model_copy(update={"work": (LINEAR, EXP)})


@pytest.fixture
def timings() -> Timings:
    kernels = (("linear", 12.5e-3), ("exp", 0.1e-3), ("linear", 12.5e-3))
    others = {"vm.builtin.make_shape": (4, 0.4e-3)}
    return Timings(0.1e-3, 25.8e-3, 0.1e-3, 0.1e-3, kernels, others, 26e-3, 5, 2, 0.0)


@pytest.fixture
def profile(manifest: Manifest, timings: Timings, limits: Limits) -> Profile:
    return make_profile(manifest, decode(50), timings, limits)
