import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ingot.bench.backends.base import Setting
from ingot.bench.backends.eager import EagerBackend
from ingot.bench.backends.torch_compile import TorchCompileBackend


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_tokens_are_those_of_eager(make_checkpoint: Callable[..., Path], setting: Setting) -> None:
    import torch

    # one layer: what compiling takes grows with them
    setting = dataclasses.replace(setting, model=make_checkpoint("llama", num_hidden_layers=1))
    eager, compiled = EagerBackend(), TorchCompileBackend()
    eager.load(setting)
    compiled.load(setting)
    assert compiled.availability(setting) is None
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for start in (1, 60):  # the second generation runs what the first compiled
            prompts = [list(range(start, start + 17))]
            times = compiled.generate(prompts, 6)
            assert times.tokens == eager.generate(prompts, 6).tokens
            assert len(times.step_times_s) == 5
    assert compiled.describe() == {"attention": "sdpa", "cache": "static", "mode": "default"}


def test_without_a_compiler_it_says_so(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = TorchCompileBackend().availability(setting)
    assert reason == "torch.compile needs a C++ compiler: no no-such-compiler on the PATH"
