"""Tiles are asked for where code needs them, and a refusal is one sentence."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from ingot.errors import ArtifactTargetError
from ingot.runtime.amx import allow_tiles
from ingot.runtime.executor import CompiledExecutor
from ingot.targets import detect_cpu, load_targets


class Libc:
    """A system that answers `status`, and remembers what it was asked."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked: list[tuple[int, ...]] = []

    def syscall(self, *numbers: int) -> int:
        self.asked.append(numbers)
        return self.status


@pytest.fixture
def libc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Libc:
    system = Libc(request.param)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: system)
    return system


@pytest.mark.parametrize("libc", [0], indirect=True)
def test_asks_only_for_code_that_needs_tiles(libc: Libc) -> None:
    targets = load_targets()
    allow_tiles(targets["cpu:znver4"].features)
    assert not libc.asked
    allow_tiles(targets["cpu:sapphirerapids"].features)
    assert libc.asked == [(158, 0x1023, 18)]


@pytest.mark.parametrize("libc", [-1], indirect=True)
def test_refused(libc: Libc) -> None:
    with pytest.raises(ArtifactTargetError, match="doesn't let this process use AMX"):
        allow_tiles(["amx_tile"])


@pytest.mark.parametrize("libc", [-1], indirect=True)
def test_an_artifact_asks_before_its_code_is_loaded(libc: Libc) -> None:
    target = SimpleNamespace(features=("amx_tile",), cuda_archs=())
    artifact: Any = SimpleNamespace(manifest=SimpleNamespace(target=target))
    with pytest.raises(ArtifactTargetError, match="use AMX"):
        CompiledExecutor(artifact, num_pages=1)
    assert len(libc.asked) == 1


def test_this_system_refuses_what_its_cpu_lacks() -> None:
    if "amx_tile" in detect_cpu().features:
        allow_tiles(["amx_tile"])
    else:
        with pytest.raises(ArtifactTargetError, match="AMX"):
            allow_tiles(["amx_tile"])
