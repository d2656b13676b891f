"""Observed calls become a step's times; a tiny artifact is measured from one end to the other."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ingot.bench.limits.record import Limits
from ingot.bench.profile.case import Case, decode, prefill
from ingot.bench.profile.measure import (
    LEAST_SECONDS,
    Timings,
    alike,
    measure,
    middle,
    split,
    times_in_turns,
)
from ingot.bench.profile.observer import LEAST_CALL, ObservedCall, Observer
from ingot.bench.profile.report import make_profile
from ingot.errors import IngotError
from ingot.runtime.artifact import load_artifact
from ingot.runtime.artifact.artifact import Artifact

TIMINGS = Timings(1e-5, 1e-3, 2e-6, 3e-5, (), {}, 2e-3, 3, 2, 0.0)


def test_the_observers_share_is_taken_off() -> None:
    calls = [
        ObservedCall("linear", 10e-6),
        ObservedCall(LEAST_CALL, 1.5e-6),
        ObservedCall("linear", 12e-6),
        ObservedCall("vm.builtin.make_shape", 3e-6),
        ObservedCall("vm.builtin.make_shape", 1e-6),
    ]
    overheads = {"linear": 2e-6, LEAST_CALL: 1e-6, "vm.builtin.make_shape": 1e-6}
    found = split(TIMINGS, calls, {"linear"}, overheads)
    assert found.kernels == (
        ("linear", pytest.approx(7.55e-6)),
        ("linear", pytest.approx(9.55e-6)),
    )
    assert found.others["vm.builtin.make_shape"] == (2, pytest.approx(1.6e-6))
    assert found.others[LEAST_CALL] == (1, pytest.approx(LEAST_SECONDS))


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.bench.profile.measure.PAIRS_S", 0.0)


def test_turns_are_taken_one_after_the_other() -> None:
    order: list[str] = []
    times_in_turns(lambda: order.append("a"), lambda: order.append("b"), repetitions=2)
    assert order == ["a", "b"] * 3


@pytest.mark.parametrize("case", [prefill(9, 2), decode(40, 2)])
def test_a_tiny_artifact(case: Case, tiny_artifact: Path, limits: Limits) -> None:
    artifact = load_artifact(tiny_artifact)
    features = artifact.manifest.target.features
    if "avx2" not in features:
        pytest.skip("the made-up limits are of x86")
    timings = measure(artifact, case, threads=1, repetitions=3)
    calls = sum(len(record.calls) for record in artifact.manifest.work)
    assert len(timings.kernels) == calls
    profile = make_profile(artifact.manifest, case, timings, limits)
    assert sum(row.calls for row in profile.rows if row.load) == calls
    assert {"matmul", "paged_attention", "norm", "overhead"} <= {row.kind for row in profile.rows}
    assert all(row.time_s > 0 for row in profile.rows)


class TickingExecutor:
    """A step whose kernels take 10 us each by a clock of its own; observing one takes 3 us more."""

    now_s = 0.0

    def __init__(self, artifact: Artifact, **_options: object) -> None:
        self.vm = self
        self.num_threads = 1
        self._observer: Observer | None = None
        calls = [(at, record.kernel) for record in artifact.manifest.work for at in record.calls]
        self._kernels = [name for _, name in sorted(calls)]

    @classmethod
    def pass_time(cls, seconds: float) -> None:
        cls.now_s += seconds

    def observe(self, observer: Observer) -> None:
        self._observer = observer

    def step(self, _inputs: object) -> None:
        for name in self._kernels:
            if self._observer is not None:
                self._observer(None, name, True, None)
                self.pass_time(3e-6)
            self.pass_time(10e-6)
            if self._observer is not None:
                self._observer(None, name, False, None)

    def copy_pages(self, copies: list[tuple[int, int]]) -> None:
        """Memory that was never written would be read from the CPU's cache."""
        assert {to for _, to in copies} == set(range(len(copies)))

    def arguments(self, _function: str, _inputs: object) -> None:
        pass

    def sample(self, _logits: object, _sampling: object) -> None:
        self.pass_time(50e-6)


def test_what_is_measured_adds_up(
    tiny_artifact: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time stands still but in kernels, in sampling and in the observer, so the sum is exact."""
    monkeypatch.setattr(TickingExecutor, "now_s", 0.0)
    clock = SimpleNamespace(perf_counter=lambda: TickingExecutor.now_s)
    module = "ingot.bench.profile.measure"
    monkeypatch.setattr(f"{module}.time", clock)
    monkeypatch.setattr(
        f"{module}.Observer", lambda: Observer(lambda: round(TickingExecutor.now_s * 1e9))
    )
    monkeypatch.setattr(f"{module}.CompiledExecutor", TickingExecutor)
    monkeypatch.setattr(f"{module}.call_overhead", lambda args: 3e-6)
    artifact, case = load_artifact(tiny_artifact), decode(40, 2)
    timings = measure(artifact, case, threads=1, repetitions=3)
    assert [seconds for _, seconds in timings.kernels] == pytest.approx(
        [10e-6] * len(timings.kernels)
    )
    assert timings.sample_s == pytest.approx(50e-6)
    assert make_profile(artifact.manifest, case, timings, limits).covered == pytest.approx(1)


def test_an_artifact_without_work_is_refused(tiny_artifact: Path) -> None:
    artifact = load_artifact(tiny_artifact)
    object.__setattr__(artifact, "manifest", artifact.manifest.model_copy(update={"work": ()}))
    with pytest.raises(IngotError, match="doesn't say what its kernels do"):
        measure(artifact, decode(4), threads=1, repetitions=1)


def test_pairs_that_a_busy_machine_pulled_apart_dont_count() -> None:
    unobserved = [10.0, 10.0, 30.0, 10.0]
    observed = [11.0, 31.0, 11.0, 11.1]
    assert sorted(alike(observed, unobserved)) == [0, 3]


def test_the_middle_is_the_mean_between_the_quartiles() -> None:
    assert middle([5.0]) == 5.0
    assert middle([1.0, 3.0]) == 2.0
    assert middle([100.0, 2.0, 1.0, 4.0]) == 3.0
