import dataclasses
from pathlib import Path

import pytest

from ingot.bench.backends.base import Setting
from ingot.bench.backends.compiled import CompiledBackend
from ingot.bench.backends.eager import EagerBackend


@pytest.fixture
def large_enough(setting: Setting) -> Setting:
    return dataclasses.replace(
        setting, max_batch=3, max_prompt_tokens=17, max_context_tokens=17 + 6
    )


def test_tokens_are_those_of_eager(large_enough: Setting, tiny_artifact: Path) -> None:
    """`tiny_artifact` is what `prepare` made of the checkpoint."""
    setting = dataclasses.replace(large_enough, folder=tiny_artifact.parent)
    eager, backend = EagerBackend(), CompiledBackend()
    assert backend.availability(setting) is None
    backend.load(setting)
    eager.load(setting)
    for length, batch_size in ((1, 1), (17, 1), (16, 3), (17, 3)):
        prompts = [list(range(row + 1, row + 1 + length)) for row in range(batch_size)]
        times = backend.generate(prompts, 6)
        assert times.tokens == eager.generate(prompts, 6).tokens
        assert len(times.step_times_s) == 5
    assert backend.describe()["quant"] == "f32"
    backend.close()


def test_given_artifact_is_not_compiled_again(
    large_enough: Setting, tiny_artifact: Path, tmp_path: Path
) -> None:
    setting = dataclasses.replace(large_enough, artifact=tiny_artifact, model=tmp_path / "nowhere")
    backend = CompiledBackend()
    assert backend.availability(setting) is None
    backend.prepare(setting)
    backend.load(setting)
    assert len(backend.generate([[1, 2, 3]], 6).tokens[0]) == 6
    backend.close()
    assert list(tmp_path.iterdir()) == []
