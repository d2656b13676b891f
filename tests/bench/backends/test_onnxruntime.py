import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from ingot.bench.backends.base import Setting
from ingot.bench.backends.eager import EagerBackend
from ingot.bench.backends.onnxruntime import OnnxRuntimeBackend
from ingot.errors import IngotError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_tokens_are_those_of_eager(make_checkpoint: Callable[..., Path], setting: Setting) -> None:
    # a window shorter than the prompt: it is at work in prefill and in decode
    model = make_checkpoint("mistral", sliding_window=8)
    setting = dataclasses.replace(setting, model=model)
    eager, backend = EagerBackend(), OnnxRuntimeBackend()
    assert backend.availability(setting) is None
    backend.prepare(setting)
    backend.load(setting)
    eager.load(setting)
    # one graph for every length and batch, the sizes of its export among them
    for length, batch_size in ((1, 1), (3, 2), (17, 1), (16, 3)):
        prompts = [list(range(row + 1, row + 1 + length)) for row in range(batch_size)]
        times = backend.generate(prompts, 6)
        assert times.tokens == eager.generate(prompts, 6).tokens
        assert len(times.step_times_s) == 5
    assert backend.describe() == {"provider": "CPUExecutionProvider"}
    backend.close()


def test_what_the_cpu_lacks_is_a_reason(setting: Setting) -> None:
    reason = OnnxRuntimeBackend().availability(dataclasses.replace(setting, dtype="bfloat16"))
    assert reason == "onnxruntime's CPU provider lacks bfloat16 kernels: float32 only"


def test_what_cuda_needs_is_a_reason(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    reason = OnnxRuntimeBackend().availability(dataclasses.replace(setting, device="cuda"))
    assert reason == "onnxruntime has no CUDA provider: onnxruntime-gpu isn't installed"


def test_bfloat16_is_a_reason_on_cuda(setting: Setting) -> None:
    asked = dataclasses.replace(setting, device="cuda", dtype="bfloat16")
    assert "have no bfloat16" in str(OnnxRuntimeBackend().availability(asked))


def test_a_provider_that_does_not_load_is_an_error(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime itself goes on with the CPU, whose times would stand in the GPU's column."""
    import onnxruntime

    class Session:
        def __init__(self, *_: object, providers: list[str]) -> None:
            assert providers == ["CUDAExecutionProvider"]

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(IngotError, match="can't load its CUDAExecutionProvider"):
        OnnxRuntimeBackend().load(dataclasses.replace(setting, device="cuda"))
