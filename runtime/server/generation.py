"""Turns one API request into chunks of all its outputs, measured and traced on their way."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.server.errors import ApiError, as_api_error, bad_request
from ingot.runtime.server.schemas.replies import Usage
from ingot.runtime.server.state import ServerState
from ingot.runtime.server.traces import Trace

# `timeout` has no name in OpenAI's API: the output was cut off, as by `max_tokens`.
FINISH_REASONS = {"stop": "stop", "length": "length", "timeout": "length", "abort": "stop"}
QUEUED_CHUNKS = 16  # of several prompts together; a slow reader slows all of them


@dataclass(frozen=True, slots=True)
class Endpoint:
    name: str
    id_prefix: str


CHAT = Endpoint("chat", "chatcmpl")
COMPLETIONS = Endpoint("completions", "cmpl")


class Generation:
    """The outputs of one request's prompts: those of prompt p are n*p .. n*(p+1)-1.

    Closing `chunks` early aborts what still runs.
    """

    def __init__(
        self,
        state: ServerState,
        endpoint: Endpoint,
        model: str,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        options: RequestOptions,
        key_name: str,
    ) -> None:
        self.id = f"{endpoint.id_prefix}-{uuid.uuid4().hex}"
        self._model = model
        self.created = int(time.time())
        self.prompts = prompts
        self.num_outputs = params.n * len(prompts)
        self._state = state
        self._params = params
        self._options = options
        self._num_output_tokens = 0
        self._num_cached_tokens = 0
        self._last_s: dict[int, float] = {}
        self._accepted: set[int] = set()  # prompts
        self.is_accepted = asyncio.Event()
        limit = state.settings.max_choices
        num_runs = max(params.n, params.best_of or 1) * len(prompts)
        if num_runs > limit:
            raise bad_request(
                f"the request asks for {num_runs} outputs; this server makes {limit} at a time", "n"
            )
        self.trace = Trace(
            self.id, endpoint.name, key_name, len(prompts), sum(len(prompt) for prompt in prompts)
        )
        state.traces.add(self.trace)

    async def chunks(self) -> AsyncGenerator[tuple[int, Chunk], None]:
        """Each output's chunks with its number."""
        state = "cancelled"
        reason = None
        source = self._follow(0) if len(self.prompts) == 1 else self._merge()
        self._state.running[self.id] = self
        try:
            async with aclosing(source) as merged:
                async for index, chunk in merged:
                    self._observe(index, chunk)
                    if chunk.finish_reason == "error":
                        raise bad_request(
                            f"the request failed: {chunk.error}", code="generation_failed"
                        )
                    if chunk.finish_reason == "timeout" and not self.has_begun:
                        raise ApiError(
                            408,
                            "the request's time was over before its first token",
                            code="timeout",
                        )
                    yield index, chunk
            state = "finished"
        except Exception as error:
            state = "failed"
            reason = as_api_error(error).message
            raise
        finally:
            del self._state.running[self.id]
            self._state.num_cancelled += state == "cancelled"
            self.trace.end(state, reason)

    def frame(self) -> dict[str, Any]:
        """What every answer and every event begins with."""
        return {
            "id": self.id,
            "object": "",
            "created": self.created,
            "model": self._model,
            "system_fingerprint": self._state.fingerprint,
        }

    def usage(self) -> Usage:
        num_prompt = self.trace.num_prompt_tokens
        return {
            "prompt_tokens": num_prompt,
            "completion_tokens": self._num_output_tokens,
            "total_tokens": num_prompt + self._num_output_tokens,
            "prompt_tokens_details": {"cached_tokens": self._num_cached_tokens},
        }

    @property
    def num_output_tokens(self) -> int:
        return self._num_output_tokens

    @property
    def has_begun(self) -> bool:
        return bool(self._last_s)

    async def _follow(self, place: int) -> AsyncGenerator[tuple[int, Chunk], None]:
        stream = self._state.engine.stream(
            self.prompts[place], self._params, self._options, partial(self._accept, place)
        )
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield place * self._params.n + chunk.index, chunk

    def _accept(self, place: int) -> None:
        """The engine will not refuse this prompt any more."""
        self._accepted.add(place)
        if len(self._accepted) == len(self.prompts):
            self.is_accepted.set()

    async def _merge(self) -> AsyncGenerator[tuple[int, Chunk], None]:
        queue: asyncio.Queue[tuple[int, Chunk] | Exception | None] = asyncio.Queue(QUEUED_CHUNKS)

        async def follow(place: int) -> None:
            try:
                async with aclosing(self._follow(place)) as chunks:
                    async for item in chunks:
                        await queue.put(item)
            except Exception as error:
                await queue.put(error)
            else:
                await queue.put(None)

        tasks = [asyncio.create_task(follow(place)) for place in range(len(self.prompts))]
        try:
            num_open = len(tasks)
            while num_open:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    num_open -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _observe(self, index: int, chunk: Chunk) -> None:
        now = time.monotonic()
        state = self._state
        if chunk.token_ids:
            if index in self._last_s:
                state.metrics.observe_gap(now - self._last_s[index])
            elif not self._last_s:
                self.trace.first_chunk_s = time.time() - self.trace.created
            self._last_s[index] = now
            self._num_output_tokens += len(chunk.token_ids)
            state.recent.add_tokens(len(chunk.token_ids))
        if chunk.finish_reason is not None and chunk.stats is not None:
            self._num_cached_tokens += (
                chunk.stats.num_prefix_hit_tokens if index % self._params.n == 0 else 0
            )
            self.trace.add_output(index, chunk.finish_reason, chunk.stats)
            state.metrics.observe_output(chunk.finish_reason, chunk.stats)
            state.recent.add_output(chunk.stats)


def finish_name(chunk: Chunk) -> str | None:
    """OpenAI's name for the end of an output, None before it."""
    return None if chunk.finish_reason is None else FINISH_REASONS[chunk.finish_reason]
