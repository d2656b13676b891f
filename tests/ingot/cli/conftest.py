"""An engine that answers at once, for the verbs that talk to one."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ingot.runtime
from ingot.errors import RequestError
from ingot.runtime.outputs import Chunk, Completion, RequestStats
from ingot.runtime.sampling_params import SamplingParams

STATS = RequestStats(2, 2, 0, 0.1, 0.05, 0.15)


class FakeEngine:
    """Answers every prompt with ` a b`. A chat's prompt is its messages."""

    made: list[tuple[Any, dict[str, Any]]] = []
    asked: list[tuple[Any, SamplingParams]] = []

    def __init__(self, artifact: Any, *, on_progress: Callable[[int, int], None], **options: Any):
        on_progress(1, 1)
        self.made.append((artifact, options))

    def __enter__(self) -> "FakeEngine":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def encode_chat(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        if any(message["content"] == "too long" for message in messages):
            raise RequestError("the prompt is longer than the context")
        return messages

    def stream(self, prompt: Any, params: SamplingParams) -> Iterator[Chunk]:
        self.asked.append((prompt, params))
        if isinstance(prompt, list) and prompt[-1]["content"] == "interrupt":
            signal.raise_signal(signal.SIGINT)
        yield Chunk(0, " a", (1,))
        yield Chunk(0, " b", (2,), finish_reason="length", stats=STATS)

    def generate(self, prompt: Any, params: SamplingParams) -> list[Completion]:
        self.asked.append((prompt, params))
        return [Completion(0, " a b", (1, 2), "length", STATS)]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    FakeEngine.made, FakeEngine.asked = [], []
    monkeypatch.setitem(vars(ingot.runtime), "Engine", FakeEngine)
    return FakeEngine
