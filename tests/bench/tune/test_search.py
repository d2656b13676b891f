"""The fastest candidate wins where it is worth it; sizes change times and never a result."""

from dataclasses import replace

import numpy as np
import pytest

from ingot.bench.limits.measure import build_library
from ingot.bench.limits.measurements import Measurement
from ingot.bench.tune.cpu import cpu_timing, tunables
from ingot.bench.tune.search import Candidate, Searched, choose, search
from ingot.bench.tune.trial import Tunable
from ingot.runtime.vm import VirtualMachine, as_array, as_tensor
from ingot.targets import best_cpu_target, detect_cpu
from ingot.targets.tuned import CPU_PARAMETERS

TARGET = best_cpu_target(detect_cpu())
SCALE = 64


def find(name: str) -> Tunable:
    found = [tunable for tunable in tunables(TARGET, SCALE) if tunable.name == name]
    if not found:
        pytest.skip(f"this CPU's kernels have no {name}")
    return found[0]


def test_every_size_has_a_trial() -> None:
    found = tunables(TARGET, SCALE)
    assert {tunable.name for tunable in found} <= set(CPU_PARAMETERS)
    assert {"attention_block_rows", "attention_enough_blocks"} <= {t.name for t in found}
    assert all(tunable.guess in tunable.all_sizes for tunable in found)
    assert all(len(tunable.all_sizes) > 2 for tunable in found)


@pytest.mark.parametrize(
    ("times", "chosen"),
    [((1.0, 1.0, 1.0), 16), ((0.99, 1.0, 1.2), 16), ((0.9, 1.0, 0.8), 32), ((1.1, 1.0, 1.2), 16)],
)
def test_a_guess_stays_unless_another_is_clearly_faster(
    times: tuple[float, ...], chosen: int
) -> None:
    candidates = tuple(
        Candidate(size, best, best) for size, best in zip((8, 16, 32), times, strict=True)
    )
    assert choose(16, candidates) == chosen
    searched = Searched("matmul_tiles_per_task", 16, chosen, candidates)
    assert searched.gain == pytest.approx(1 - min(times) if chosen != 16 else 0.0)


@pytest.mark.parametrize("name", ["matmul_dot_rows", "attention_block_rows"])
def test_a_size_changes_no_bit(name: str, tmp_path: object) -> None:
    tunable = find(name)
    (trial,) = tunable.calls
    sizes = (tunable.all_sizes[0], tunable.all_sizes[-1])
    measurements = [
        Measurement(
            f"size_{size}",
            "s",
            1.0,
            trial.build(replace(TARGET, tuned=((name, size),))),
            trial.arguments,
            trial.out_shape,
            "float32",
            "",
        )
        for size in sizes
    ]
    build_library(measurements, TARGET, tmp_path / "both.so")  # type: ignore[operator]
    vm = VirtualMachine(tmp_path / "both.so", 1)  # type: ignore[operator]
    arguments = [as_tensor(array) for array in trial.arguments]
    first, second = (np.array(as_array(vm.call(m.name, *arguments))) for m in measurements)
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()


def test_a_search_times_every_candidate() -> None:
    tunable = replace(find("attention_enough_blocks"), candidates=(1, 128))
    searched = search(tunable, TARGET, cpu_timing(1), repetitions=2)
    assert [candidate.size for candidate in searched.candidates] == list(tunable.all_sizes)
    assert all(0 < c.best_s <= c.median_s for c in searched.candidates)
    assert searched.chosen in tunable.all_sizes
