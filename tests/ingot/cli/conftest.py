"""An engine that answers at once, for the verbs that talk to one."""

from collections.abc import Iterator
from typing import Any

import pytest

import ingot.runtime
from ingot.runtime.outputs import Chunk, Completion, RequestStats
from ingot.runtime.sampling_params import SamplingParams

STATS = RequestStats(2, 2, 0, 0.1, 0.05, 0.15)


class FakeEngine:
    """Answers every prompt with ` a b`."""

    made: list[tuple[Any, dict[str, Any]]] = []
    asked: list[tuple[str, SamplingParams]] = []

    def __init__(self, artifact: Any, **options: Any) -> None:
        self.made.append((artifact, options))

    def stream(self, prompt: str, params: SamplingParams) -> Iterator[Chunk]:
        self.asked.append((prompt, params))
        yield Chunk(0, " a", (1,))
        yield Chunk(0, " b", (2,), finish_reason="length", stats=STATS)

    def generate(self, prompt: str, params: SamplingParams) -> list[Completion]:
        self.asked.append((prompt, params))
        return [Completion(0, " a b", (1, 2), "length", STATS)]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    FakeEngine.made, FakeEngine.asked = [], []
    monkeypatch.setitem(vars(ingot.runtime), "Engine", FakeEngine)
    return FakeEngine
