import pytest

from ingot.bench.backends import create_backend
from ingot.bench.backends.base import StepTimer, missing_package
from ingot.errors import UsageError


def test_step_timer_takes_the_first_step_as_ttft() -> None:
    clock = iter([10.0, 10.5, 10.75, 11.75])
    timer = StepTimer(lambda: next(clock))
    timer.start()
    for tokens in ([1, 4], [2, 5], [3, 6]):
        timer.step(tokens)
    times = timer.finish()
    assert times.ttft_s == 0.5
    assert times.step_times_s == (0.25, 1.0)
    assert times.tokens == ((1, 2, 3), (4, 5, 6))


def test_missing_package_is_named() -> None:
    assert missing_package("json") is None
    assert missing_package("json", "no_such_package") == "no_such_package isn't installed"


def test_unknown_backend_lists_the_known() -> None:
    with pytest.raises(UsageError, match="'vllm'; there are .*eager, torch-compile, onnxruntime"):
        create_backend("vllm")
