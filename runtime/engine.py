"""Turns prompts into completions: the face of the runtime, to be embedded in an application.

    with Engine("artifact") as engine:
        print(engine.generate("def fibonacci(n):", SamplingParams(max_tokens=64))[0].text)

Requests added from several places run together, in one batch. An engine is for one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.errors import RequestError, UsageError
from ingot.runtime.artifact.artifact import Artifact, load_artifact
from ingot.runtime.constraints.masker import Masker
from ingot.runtime.core import EngineCore
from ingot.runtime.core_parts import create_core
from ingot.runtime.engine_stats import Counters, EngineStats
from ingot.runtime.executor import Executor
from ingot.runtime.kv.size import Load, choose_num_pages
from ingot.runtime.limits import DEFAULT_MAX_SEQUENCES, DEFAULT_MAX_STEP_TOKENS, Limits
from ingot.runtime.outputs import Chunk, Completion, join_chunks
from ingot.runtime.pooling import finish_embedding, take_embedding
from ingot.runtime.prompts import Prompt, as_prompts
from ingot.runtime.request_options import PoolingKind, RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.speculation.build import (
    DEFAULT_MAX_TOKENS,
    SpeculationKind,
    SpeculationOptions,
)
from ingot.runtime.tokenizer import Tokenizer


class Engine:
    """One artifact, loaded.

    num_threads      CPU threads of the compiled code; all that the process may use by default
    num_pages        size of the KV cache in pages, or
    kv_memory_bytes  the same in bytes; by default what `max_sequences` full contexts need, but not
                     more than a quarter of the machine's memory, or nine tenths of a GPU's free one
    max_sequences    how many requests run at the same time; more wait
    max_step_tokens  how many tokens one step computes at most: longer prompts are read in chunks
    max_waiting      how many requests may wait; more are refused with QueueFull
    speculation      "prompt-lookup" guesses from what was said before, "draft" by a draft model;
                     outputs are the same, the guesses are checked by the model
    draft            artifact of a smaller model of the same vocabulary, to guess
    max_draft_tokens how many guesses one sequence gets in one step at most
    verify           hash the weights before using them
    on_progress      called with the bytes of weights that were sent to a GPU, and those of all
    """

    def __init__(
        self,
        artifact: str | Path | Artifact,
        *,
        num_threads: int | None = None,
        num_pages: int | None = None,
        kv_memory_bytes: int | None = None,
        max_sequences: int = DEFAULT_MAX_SEQUENCES,
        max_step_tokens: int = DEFAULT_MAX_STEP_TOKENS,
        max_waiting: int | None = None,
        speculation: SpeculationKind | None = None,
        draft: str | Path | Artifact | None = None,
        max_draft_tokens: int = DEFAULT_MAX_TOKENS,
        verify: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if isinstance(artifact, str | Path):
            artifact = load_artifact(artifact, verify=verify)
        if not 1 <= max_sequences <= max_step_tokens:
            raise UsageError(
                f"max_sequences is {max_sequences}; it is 1 to max_step_tokens, {max_step_tokens}, "
                "because every running sequence gets a token in every step"
            )
        self.manifest = manifest = artifact.manifest
        has_tokenizer = (artifact.path / "tokenizer.json").exists()
        self.tokenizer = Tokenizer(artifact.path, manifest.model.config) if has_tokenizer else None
        options = SpeculationOptions(speculation, draft, max_draft_tokens)
        load = Load(manifest, max_sequences, max_step_tokens, options.draft_manifest)
        self._core: EngineCore | None = create_core(
            artifact,
            self.tokenizer,
            options,
            num_threads=num_threads,
            num_pages=choose_num_pages(load, num_pages, kv_memory_bytes),
            max_sequences=max_sequences,
            max_step_tokens=max_step_tokens,
            max_waiting=max_waiting,
            on_progress=on_progress,
            executor=executor,
            clock=clock,
        )
        # Chunks of requests that `generate` or `stream` wait for, and of all others.
        self._claimed: dict[int, list[Chunk]] = {}
        self._unclaimed: list[Chunk] = []

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        options: RequestOptions | None = None,
    ) -> list[Completion]:
        """Complete one prompt or several (texts or token ids), together, in their order."""
        many = as_prompts(prompts)
        if params is None or isinstance(params, SamplingParams):
            each = [params or SamplingParams()] * len(many)
        else:
            each = list(params)
        if len(each) != len(many):
            raise RequestError(f"there are {len(many)} prompts and {len(each)} sampling params")
        answers = self._run(many, each, options)
        return [completion for chunks in answers for completion in join_chunks(chunks)]

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        options: RequestOptions | None = None,
    ) -> Generator[Chunk, None, None]:
        """Complete one prompt, chunk by chunk. Leaving the loop early stops the request."""
        request_id = self._claim(prompt, params, options)
        try:
            yield from self._follow(request_id)
        finally:
            self._release(request_id)

    def embed(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        pooling: PoolingKind = "last",
        normalize: bool = True,
        dimensions: int | None = None,
        options: RequestOptions | None = None,
    ) -> NDArray[np.float32]:
        """The embeddings of one prompt or several, `[prompts, width]`: the model's last hidden
        states, after its last norm, of the last token or the mean over all. `dimensions` keeps
        the first so many; `normalize` then makes the length 1."""
        many = as_prompts(prompts)
        options = replace(options or RequestOptions(), pooling=pooling)
        answers = self._run(many, [SamplingParams()] * len(many), options)
        vectors = [
            finish_embedding(take_embedding(chunks), normalize=normalize, dimensions=dimensions)
            for chunks in answers
        ]
        return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        params: SamplingParams | None = None,
        **variables: Any,
    ) -> Completion:
        """Answer a conversation, by the model's own template; `variables` are passed to it."""
        return self.generate(self.encode_chat(messages, **variables), params)[0]

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
        """The prompt that asks for the next message, to be given to `stream` or `add_request`."""
        return self._tokenizer().encode_chat(messages, **variables)

    def add_request(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        options: RequestOptions | None = None,
    ) -> int:
        """Let a request wait for its turn. Its chunks come out of `step`."""
        core = self._open()
        return core.add(self._encode(prompt), params or SamplingParams(), options)

    def step(self) -> list[Chunk]:
        """Run one step and return the chunks of requests added by `add_request`."""
        self._advance()
        chunks, self._unclaimed = self._unclaimed, []
        return chunks

    def abort(self, request_id: int) -> None:
        """Stop a request and free its pages. What it had left comes with the next `step`, and its
        reason is `abort`."""
        self._deliver(self._open().abort(request_id))

    @property
    def has_work(self) -> bool:
        """Whether a call of `step` would bring something."""
        return self._open().has_work or bool(self._unclaimed)

    def speculate(self, is_on: bool) -> None:
        """Guess from the next step on, or not, if the engine was made with something to guess."""
        self._open().is_speculating = is_on

    @property
    def masker(self) -> Masker:
        """What compiles constraints, to be told of them before their requests come."""
        return self._open().masker

    @property
    def counters(self) -> Counters:
        return self._open().counters

    @property
    def limits(self) -> Limits:
        return self._open().limits

    def stats(self) -> EngineStats:
        """How many requests and pages are in which state, and the counters."""
        return self._open().stats()

    def close(self) -> None:
        """Stop all requests and give the memory back."""
        if self._core is not None:
            self._core.close()
            self._core = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> EngineCore:
        if self._core is None:
            raise UsageError("the engine is closed")
        return self._core

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise RequestError("the artifact has no tokenizer; give the prompt as token ids")
        return self.tokenizer

    def _encode(self, prompt: Prompt) -> Sequence[int]:
        if not isinstance(prompt, str):
            return prompt
        if not prompt:
            raise RequestError("the prompt is empty; it needs at least one character")
        return self._tokenizer().encode(prompt)

    def _run(
        self,
        prompts: Sequence[Prompt],
        params: Sequence[SamplingParams],
        options: RequestOptions | None,
    ) -> list[list[Chunk]]:
        """All chunks of each prompt, run together."""
        request_ids: list[int] = []
        try:
            for prompt, one in zip(prompts, params, strict=True):
                request_ids.append(self._claim(prompt, one, options))
            return [list(self._follow(request_id)) for request_id in request_ids]
        finally:
            for request_id in request_ids:
                self._release(request_id)

    def _claim(
        self, prompt: Prompt, params: SamplingParams | None, options: RequestOptions | None
    ) -> int:
        request_id = self.add_request(prompt, params, options)
        self._claimed[request_id] = []
        return request_id

    def _release(self, request_id: int) -> None:
        if self._core is not None:
            self._core.abort(request_id)
        del self._claimed[request_id]

    def _follow(self, request_id: int) -> Iterator[Chunk]:
        """The chunks of one claimed request, stepping the engine while there are none."""
        while True:
            chunks, self._claimed[request_id] = self._claimed[request_id], []
            for chunk in chunks:
                if chunk.finish_reason == "error":
                    raise RequestError(chunk.error)
                yield chunk
                if chunk.is_last:
                    return
            if not chunks:
                self._advance()

    def _advance(self) -> None:
        self._deliver(self._open().step())

    def _deliver(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            self._claimed.get(chunk.request_id, self._unclaimed).append(chunk)
