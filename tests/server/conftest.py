"""A scripted engine behind a real socket: what is tested is everything but the model."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from ingot.errors import EngineDead
from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.engine_stats import EngineStats
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk, RequestStats, TokenLogprob
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.server.app import create_app, create_state
from ingot.runtime.server.lifecycle import DrainingServer
from ingot.runtime.server.settings import ServerSettings
from ingot.runtime.server.state import ServerState
from ingot.runtime.tokenizer import Tokenizer
from tests.runtime.toy_artifact import toy_manifest

DEMO = Path(__file__).resolve().parents[2] / "models/demo"
CONTEXT = 512


@dataclass
class FakeEngine:
    """Answers every prompt with `text`, a token each `delay_s`. `texts` differ by output."""

    text: str = "one two three"
    texts: tuple[str, ...] = ()
    delay_s: float = 0.0
    refusal: Exception | None = None
    break_after: int | None = None  # tokens, then the request fails by itself
    times_out: bool = False  # before the first token
    failure: str | None = None
    asked: list[tuple[list[int], SamplingParams, RequestOptions]] = field(default_factory=list)
    num_aborted: int = 0
    num_open: int = 0

    def __post_init__(self) -> None:
        self.tokenizer = Tokenizer(DEMO)
        step = {**toy_manifest().step.model_dump(), "max_context_tokens": CONTEXT}
        step["vocab_size"] = self.tokenizer.vocab_size
        self.model_info: Manifest = toy_manifest(step=step)
        self.limits = Limits(self.tokenizer.vocab_size, CONTEXT, 1024, 8, 64, 16, can_embed=True)
        self.died = asyncio.Event()

    def stats(self) -> EngineStats:
        return EngineStats(0, self.num_open, 4, 1, 1, 1, 1, bytes([0, 1, 2, 3]))

    async def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        options: RequestOptions | None = None,
        on_accepted: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        assert params is not None and options is not None and not isinstance(prompt, str)
        if self.failure is not None:
            raise EngineDead(self.failure)
        if self.refusal is not None:
            raise self.refusal
        self.limits.check(prompt, params, options)
        if self.times_out:
            yield Chunk(0, "", (), (), "timeout", RequestStats(1, 0, 0, 0.0, 0.0, 0.2))
            return
        self.asked.append((list(prompt), params, options))
        if on_accepted is not None:
            on_accepted()
        self.num_open += 1
        is_done = False
        try:
            if options.pooling is not None:
                await self._wait()
                yield _embedding(prompt, options)
                is_done = True
                return
            outputs = [list(self._output(i, prompt, params)) for i in range(params.n)]
            for place in range(max(map(len, outputs))):
                for index, output in enumerate(outputs):
                    if place < len(output):
                        if self.break_after is not None and place >= self.break_after:
                            yield Chunk(
                                0, "", (), (), "error", index=index, error="its grammar broke"
                            )
                        yield output[place]
                await self._wait()
            is_done = True
        finally:
            self.num_open -= 1
            self.num_aborted += not is_done

    async def _wait(self) -> None:
        if not self.delay_s:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(self.delay_s):
                await self.died.wait()
        except TimeoutError:
            return
        raise EngineDead(str(self.failure))

    def _output(self, index: int, prompt: Sequence[int], params: SamplingParams) -> Iterator[Chunk]:
        text = self.texts[index] if self.texts else self.text
        ids = self.tokenizer.encode(text)
        limit = min(params.max_tokens or CONTEXT, CONTEXT - len(prompt))
        reason = "length" if len(ids) > limit else "stop"
        ids = ids[:limit]
        for place, token in enumerate(ids):
            is_last = place == len(ids) - 1
            yield Chunk(
                0,
                self.tokenizer.token_bytes[token].decode(),
                (token,),
                _logprobs(token, params.logprobs),
                reason if is_last else None,  # type: ignore[arg-type]
                RequestStats(len(prompt), len(ids), 0, 0.1, 0.01, 0.2, 0.02, 0.08, 0.1, 3, 4, 2)
                if is_last
                else None,
                index,
                prompt_logprobs=tuple(
                    logprob
                    for known in prompt[1:]
                    for logprob in _logprobs(known, params.prompt_logprobs)
                )
                if place == 0
                else (),
            )

    def die(self, reason: str) -> None:
        self.failure = reason
        self.died.set()

    async def close(self) -> None:
        self.die(self.failure or "the engine is closed")


def _embedding(prompt: Sequence[int], options: RequestOptions) -> Chunk:
    """The prompt's last token or the mean of all, and its length."""
    first = prompt[-1] if options.pooling == "last" else sum(prompt) / len(prompt)
    vector = np.array([first, len(prompt)], np.float32)
    stats = RequestStats(len(prompt), 0, 0, 0.0, 0.0, 0.2)
    return Chunk(0, "", (), finish_reason="stop", stats=stats, is_last=True, embedding=vector)


def _logprobs(token: int, num_top: int | None) -> tuple[TokenLogprob, ...]:
    if num_top is None:
        return ()
    top = ((token, -0.5), (token + 1, -1.5))
    return (TokenLogprob(token, -0.5, top[:num_top]),)


class RunningServer:
    """A server in a thread of its own."""

    def __init__(self, engine: FakeEngine, settings: ServerSettings) -> None:
        self.engine = engine
        self.state: ServerState
        self._settings = settings
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        self.client = httpx.Client(base_url=self.url, timeout=30)

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine.died = asyncio.Event()
        self.state = create_state(self.engine, self._settings, {})
        config = uvicorn.Config(
            create_app(self.state),
            port=0,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self.server = DrainingServer(
            config, self.state.lifecycle, self._settings.drain_s, self.engine.close
        )
        serving = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.001)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await serving

    def drain(self) -> None:
        self.loop.call_soon_threadsafe(self.server.begin_drain, "SIGTERM")

    def die(self, reason: str) -> None:
        self.loop.call_soon_threadsafe(self.engine.die, reason)

    def join(self, timeout_s: float = 20) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        self.client.close()
        self.server.should_exit = self.server.force_exit = True
        assert self.join(), "the server does not end"

    def complete(self, **fields: Any) -> httpx.Response:
        return self.client.post("/v1/completions", json={"model": "toy", "prompt": "a", **fields})

    def chat(self, content: str = "hello", **fields: Any) -> httpx.Response:
        messages = [{"role": "user", "content": content}]
        body = {"model": "toy", "messages": messages, **fields}
        return self.client.post("/v1/chat/completions", json=body)


Serve = Callable[..., RunningServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers; at the end of the test each has stopped, and nothing is left running."""
    with ExitStack() as stack:

        def start(engine: FakeEngine | None = None, **settings: Any) -> RunningServer:
            server = RunningServer(engine or FakeEngine(), ServerSettings(**settings))
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RunningServer]:
    server = RunningServer(FakeEngine(), ServerSettings())
    yield server
    server.close()


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """One with all defaults, for tests that only ask."""
    shared_server.engine.asked.clear()
    return shared_server


def read_error(response: httpx.Response) -> str:
    """The message of an error object, which has OpenAI's four fields."""
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return str(error["message"])
