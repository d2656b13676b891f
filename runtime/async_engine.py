"""Turns prompts into chunks for an asyncio application, by an engine in a process of its own.

    async with await AsyncEngine.start("artifact") as engine:
        async for chunk in engine.stream("def fibonacci(n):", SamplingParams(max_tokens=64)):
            print(chunk.text, end="")

For one event loop. Requests from all its tasks run together, in one batch.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from ingot.errors import EngineDead, IngotError, RequestError
from ingot.runtime.artifact.manifest import Manifest, read_manifest
from ingot.runtime.engine_messages import (
    LENGTH,
    Abort,
    Add,
    Advanced,
    Failed,
    Ready,
    Refused,
    Start,
    encode,
)
from ingot.runtime.engine_stats import EngineStats
from ingot.runtime.outputs import Chunk, Completion, join_chunks, merge_chunks
from ingot.runtime.pooling import finish_embedding, take_embedding
from ingot.runtime.request_options import PoolingKind, RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.speculation.build import SpeculationKind
from ingot.runtime.tokenizer import Tokenizer

CLOSE_S = 10.0  # how long the process may take to end before it is killed
LONG_TEXT = 20_000  # characters; encoding more would hold the event loop up for milliseconds


class EngineOptions(TypedDict, total=False):
    """What `Engine` takes, with its defaults."""

    num_threads: int | None
    num_pages: int | None
    kv_memory_bytes: int | None
    max_sequences: int
    max_step_tokens: int
    max_waiting: int
    speculation: SpeculationKind | None
    draft: str | Path | None
    max_draft_tokens: int
    verify: bool


class AsyncEngine:
    """One artifact, loaded in a child process. Made by `AsyncEngine.start`."""

    def __init__(
        self,
        artifact: str | Path,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ready: Ready,
    ) -> None:
        path = Path(artifact)
        self.model_info: Manifest = read_manifest(path)
        has_tokenizer = (path / "tokenizer.json").exists()
        self._tokenizer = Tokenizer(path, self.model_info.model.config) if has_tokenizer else None
        self.limits = ready.limits
        self.failure: str | None = None
        self._stats = ready.stats
        self._process = process
        self._reader = reader
        self._writer = writer
        self._keys = itertools.count()
        self._requests: dict[int, asyncio.Queue[Chunk | IngotError]] = {}
        self._unfinished: set[int] = set()  # keys of requests that the engine has, or will have
        self._on_accepted: dict[int, Callable[[], None]] = {}
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def start(cls, artifact: str | Path, **options: Unpack[EngineOptions]) -> AsyncEngine:
        """Start the process and wait until the artifact is loaded. Raises what `Engine` would."""
        unknown = options.keys() - EngineOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"AsyncEngine.start() has no option {min(unknown)!r}")
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "ingot.runtime.engine_process", str(theirs.fileno())]
            process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(encode(Start(str(artifact), dict(options), os.getpid())))
            answer = await _receive(reader)
            if isinstance(answer, Failed):
                raise answer.error
            assert isinstance(answer, Ready)
            return cls(artifact, process, reader, writer, answer)
        except BaseException as error:
            writer.close()
            process.kill()
            status = await asyncio.to_thread(process.wait)
            if isinstance(error, EOFError):
                raise EngineDead(_describe_end(status)) from None
            raise

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise RequestError("the artifact has no tokenizer; give the prompt as token ids")
        return self._tokenizer

    def stats(self) -> EngineStats:
        """How the engine stood a moment ago."""
        return self._stats

    async def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        options: RequestOptions | None = None,
        on_accepted: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """Complete one prompt, chunk by chunk; what comes while a chunk is dealt with comes as one.
        Leaving the loop early stops the request. `on_accepted` is called when the engine will not
        refuse it any more."""
        tokens = await self._encode(prompt)
        params, options = params or SamplingParams(), options or RequestOptions()
        self.limits.check(tokens, params, options)
        if self.failure is not None:
            raise EngineDead(self.failure)
        self._check_queue()
        key = next(self._keys)
        queue: asyncio.Queue[Chunk | IngotError] = asyncio.Queue()
        self._requests[key] = queue
        self._unfinished.add(key)
        if on_accepted is not None:
            self._on_accepted[key] = on_accepted
        self._writer.write(encode(Add(key, tokens, params, options)))
        is_done = False
        try:
            while not is_done:
                chunks, failure = await _take(queue)
                for chunk in merge_chunks(chunks):
                    is_done = chunk.is_last
                    if chunk.finish_reason == "error":
                        raise RequestError(chunk.error)
                    yield chunk
                if failure is not None:
                    is_done = True
                    raise failure
        finally:
            del self._requests[key]
            self._unfinished.discard(key)
            self._on_accepted.pop(key, None)
            if not is_done and self.failure is None:
                self._writer.write(encode(Abort(key)))

    async def generate(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        options: RequestOptions | None = None,
    ) -> list[Completion]:
        """Complete one prompt."""
        return join_chunks([chunk async for chunk in self.stream(prompt, params, options)])

    async def embed(
        self,
        prompt: str | Sequence[int],
        *,
        pooling: PoolingKind = "last",
        normalize: bool = True,
        dimensions: int | None = None,
        options: RequestOptions | None = None,
    ) -> NDArray[np.float32]:
        """The embedding of one prompt, as `Engine.embed` makes it."""
        options = replace(options or RequestOptions(), pooling=pooling)
        chunks = [chunk async for chunk in self.stream(prompt, None, options)]
        return finish_embedding(take_embedding(chunks), normalize=normalize, dimensions=dimensions)

    async def close(self) -> None:
        """Stop all requests and end the process."""
        if self.failure is None:
            self._fail("the engine is closed")
        self._receiving.cancel()
        self._writer.close()
        try:
            await asyncio.to_thread(self._process.wait, CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _encode(self, prompt: str | Sequence[int]) -> list[int]:
        if not isinstance(prompt, str):
            return [int(token) for token in prompt]
        if not prompt:
            raise RequestError("the prompt is empty; it needs at least one character")
        if len(prompt) < LONG_TEXT:
            return self.tokenizer.encode(prompt)
        return await asyncio.to_thread(self.tokenizer.encode, prompt)

    def _check_queue(self) -> None:
        """Refuse what the engine would, without asking it: while a long step runs, it answers
        nobody, and those who wait to be refused take memory."""
        num_running = min(len(self._unfinished), self.limits.max_sequences)
        num_waiting = len(self._unfinished) - num_running
        self.limits.check_queue(num_running, num_waiting, self._stats.retry_after_s)

    async def _receive(self) -> None:
        """Hand out what the process sends, until it ends."""
        try:
            while True:
                message = await _receive(self._reader)
                if isinstance(message, Advanced):
                    self._stats = message.stats or self._stats
                    for key in message.accepted:
                        self._on_accepted.pop(key, lambda: None)()
                    for key, values in message.chunks:
                        self._deliver(key, Chunk(*values))
                elif isinstance(message, Refused):
                    self._deliver(message.key, message.error)
                else:
                    assert isinstance(message, Failed)
                    self._fail(message.error.message)
        except (EOFError, ConnectionError):
            status = await asyncio.to_thread(self._process.wait)
            if self.failure is None:
                self._fail(_describe_end(status))

    def _deliver(self, key: int, item: Chunk | IngotError) -> None:
        if isinstance(item, IngotError) or item.is_last:
            self._unfinished.discard(key)
        # The rest of a request that was left behind has no reader.
        if key in self._requests:
            self._requests[key].put_nowait(item)

    def _fail(self, reason: str) -> None:
        self.failure = reason
        for queue in self._requests.values():
            queue.put_nowait(EngineDead(reason))


async def _take(queue: asyncio.Queue[Chunk | IngotError]) -> tuple[list[Chunk], IngotError | None]:
    """What has come, at least one chunk, or why no more will."""
    chunks: list[Chunk] = []
    while not chunks or not queue.empty():
        item = await queue.get()
        if isinstance(item, IngotError):
            return chunks, item
        chunks.append(item)
    return chunks, None


async def _receive(reader: asyncio.StreamReader) -> Any:
    """The next message; EOFError (asyncio.IncompleteReadError is one) when the process ended."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return pickle.loads(await reader.readexactly(length))


def _describe_end(status: int) -> str:
    if status < 0:
        return f"the engine's process was ended by {signal.Signals(-status).name}"
    return f"the engine's process ended with status {status}"
