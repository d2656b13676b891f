"""The engine's loop: a request waits for its own grammar, and nobody else does."""

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from ingot.errors import RequestError
from ingot.runtime.constraints import Constraint, Regex
from ingot.runtime.engine_messages import Abort, Add, Refused
from ingot.runtime.engine_process import EngineProcess
from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams

PARENT = 1


@dataclass
class SlowMasker:
    """Compiles when it is told to."""

    may_go_on: threading.Event = field(default_factory=threading.Event)

    def compile_ahead(self, constraint: Constraint) -> None:
        assert self.may_go_on.wait(30)
        if constraint == Regex("bad"):
            raise RequestError("the pattern can't be used")


@dataclass
class FakeEngine:
    """Answers each request in one step."""

    masker: SlowMasker = field(default_factory=SlowMasker)
    added: list[list[int]] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    @property
    def has_work(self) -> bool:
        return bool(self.waiting)

    def add_request(self, prompt: list[int], params: SamplingParams, options: Any) -> int:
        self.added.append(prompt)
        self.waiting.append(len(self.added))
        return len(self.added)

    def abort(self, request_id: int) -> None:
        self.aborted.append(request_id)

    def step(self) -> list[Chunk]:
        done, self.waiting = self.waiting, []
        return [Chunk(number, "a", (1,), is_last=True) for number in done]

    def stats(self) -> None:
        return None


@dataclass
class Script:
    """What the application sends: messages, and what happens between them. Then it closes."""

    lines: list[Any]
    sent: list[Any] = field(default_factory=list)

    def receive(self, timeout_s: float) -> list[Any]:
        if not self.lines:
            raise EOFError
        line = self.lines[0]
        if callable(line):
            if line():
                del self.lines[0]
            return []
        return [self.lines.pop(0)]

    def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def answered(self) -> list[int]:
        advanced = [message for message in self.sent if not isinstance(message, Refused)]
        return [key for message in advanced for key, _ in message.chunks]


def ask(key: int, pattern: str | None = None) -> Add:
    constraint = None if pattern is None else Regex(pattern)
    return Add(key, [key], SamplingParams(constraint=constraint), RequestOptions())


@pytest.fixture(autouse=True)
def parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getppid", lambda: PARENT)


def run(engine: FakeEngine, *lines: Any) -> Script:
    script = Script(list(lines))
    process = EngineProcess(engine, script, PARENT)  # type: ignore[arg-type]
    with pytest.raises(EOFError):
        process.run()
    return script


def test_others_go_on_while_a_grammar_is_compiled() -> None:
    engine = FakeEngine()

    def compiles() -> bool:
        engine.masker.may_go_on.set()
        return len(engine.added) == 3

    script = run(engine, ask(1, "[a-z]"), ask(2), ask(3), lambda: engine.added, compiles)
    assert engine.added == [[2], [3], [1]]
    assert script.answered == [2, 3, 1]


def test_a_grammar_that_fails_refuses_its_request() -> None:
    engine = FakeEngine()
    engine.masker.may_go_on.set()

    script = Script([ask(1, "bad"), lambda: any(isinstance(m, Refused) for m in script.sent)])
    with pytest.raises(EOFError):
        EngineProcess(engine, script, PARENT).run()  # type: ignore[arg-type]
    (refused,) = [message for message in script.sent if isinstance(message, Refused)]
    assert refused.key == 1 and "can't be used" in str(refused.error)
    assert engine.added == []


def test_who_leaves_before_the_grammar_is_there_never_runs() -> None:
    engine = FakeEngine()

    def compiles() -> bool:
        engine.masker.may_go_on.set()
        return len(engine.added) == 1

    run(engine, ask(1, "[a-z]"), ask(2, "[0-9]"), Abort(1), compiles)
    assert engine.added == [[2]]
    assert engine.aborted == []
