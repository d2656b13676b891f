"""`/v1/completions`: prompts to their continuations, whole or as a stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ingot.runtime.outputs import Chunk, TokenLogprob
from ingot.runtime.server.answers import answer
from ingot.runtime.server.encoding import encode_prompts
from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.generation import COMPLETIONS, Generation, finish_name
from ingot.runtime.server.logprobs import CompletionLogprobsWriter
from ingot.runtime.server.middleware import KEY_NAME
from ingot.runtime.server.sampling import make_options, make_params, read_constraint
from ingot.runtime.server.schemas.completion import CompletionBody
from ingot.runtime.server.schemas.replies import (
    CompletionChoice,
    CompletionLogprobs,
    CompletionReply,
    Usage,
)
from ingot.runtime.server.sse import STREAMED, Event
from ingot.runtime.server.state import ServerState, get_state

DEFAULT_MAX_TOKENS = 16  # OpenAI's

router = APIRouter()


@router.post("/v1/completions", responses={200: {"model": CompletionReply, **STREAMED}})
async def create_completion(body: CompletionBody, request: Request) -> Response:
    """Continue one prompt or several."""
    state = get_state(request)
    state.check_model(body.model)
    check(body)
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    params = make_params(
        body,
        state.defaults,
        max_tokens=max(max_tokens, 1),  # an echo alone: one token is computed and left out
        constraint=read_constraint(body),
        logprobs=body.logprobs,
        best_of=body.best_of,
        prompt_logprobs=body.logprobs if body.echo else None,
    )
    options = make_options(body, request.scope[KEY_NAME], state.settings.request_timeout_s)
    prompts = await encode_prompts(state, body.prompt)
    generation = Generation(
        state, COMPLETIONS, body.model, prompts, params, options, request.scope[KEY_NAME]
    )
    writer = CompletionWriter(state, generation, body, only_echo=max_tokens == 0)
    return await answer(request, body, generation, writer)


def check(body: CompletionBody) -> None:
    if body.suffix is not None:
        raise bad_request("suffix: the text between two others can't be asked for", "suffix")
    if body.max_tokens == 0 and not body.echo:
        raise bad_request("max_tokens is 0; without echo there would be no answer", "max_tokens")
    if body.best_of is not None and body.stream:
        raise bad_request("best_of chooses when all is done, and can't be streamed", "best_of")


class CompletionWriter:
    """Writes the answers of one request."""

    def __init__(
        self,
        state: ServerState,
        generation: Generation,
        body: CompletionBody,
        *,
        only_echo: bool,
    ) -> None:
        self._state = state
        self._generation = generation
        self._body = body
        self._only_echo = only_echo
        self._writers: dict[int, CompletionLogprobsWriter] = {}

    def _read(self, index: int, chunk: Chunk) -> CompletionChoice:
        """What the chunk adds to its output; the first begins with the prompt, if it is echoed."""
        text, ids, logprobs = "", list[int](), list[TokenLogprob | None]()
        is_first = index not in self._writers
        if is_first:
            self._writers[index] = CompletionLogprobsWriter(self._state.token_bytes)
        if is_first and self._body.echo:
            ids += self._prompt(index)
            text += self._prompt_text(index)
            logprobs += (None, *chunk.prompt_logprobs)  # nothing stands before the first
        if not self._only_echo:
            text += chunk.text
            ids += chunk.token_ids
            logprobs += chunk.logprobs
        lists: CompletionLogprobs | None = None
        if self._body.logprobs is not None:
            lists = self._writers[index].write(logprobs, ids)
        return {
            "index": index,
            "text": text,
            "logprobs": lists,
            "finish_reason": finish_name(chunk),
        }

    def _prompt(self, index: int) -> Sequence[int]:
        outputs_each = self._generation.num_outputs // len(self._generation.prompts)
        return self._generation.prompts[index // outputs_each]

    def _prompt_text(self, index: int) -> str:
        prompt = self._body.prompt
        if isinstance(prompt, str):
            return prompt
        if isinstance(prompt[0], str):
            outputs_each = self._generation.num_outputs // len(prompt)
            return str(prompt[index // outputs_each])
        return self._state.engine.tokenizer.decode(self._prompt(index))

    async def reply(self) -> dict[str, Any]:
        choices: dict[int, CompletionChoice] = {}
        async with aclosing(self._generation.chunks()) as chunks:
            async for index, chunk in chunks:
                part = self._read(index, chunk)
                choices[index] = _join(choices[index], part) if index in choices else part
        return {
            **self._frame(),
            "choices": [choices[index] for index in sorted(choices)],
            "usage": self._usage(),
        }

    async def events(self, *, include_usage: bool) -> AsyncGenerator[Event, None]:
        usage = {"usage": None} if include_usage else {}
        async with aclosing(self._generation.chunks()) as chunks:
            async for index, chunk in chunks:
                part = self._read(index, chunk)
                if part["text"] or part["logprobs"] or part["finish_reason"]:
                    yield {**self._frame(), "choices": [part], **usage}
        if include_usage:
            yield {**self._frame(), "choices": [], "usage": self._usage()}

    def _usage(self) -> Usage:
        """The token that is computed for an echo alone is nobody's."""
        usage = self._generation.usage()
        if self._only_echo:
            usage["completion_tokens"] = 0
            usage["total_tokens"] = usage["prompt_tokens"]
        return usage

    def _frame(self) -> dict[str, Any]:
        return {**self._generation.frame(), "object": "text_completion"}


def _join(first: CompletionChoice, second: CompletionChoice) -> CompletionChoice:
    lists = first["logprobs"]
    if lists is not None and second["logprobs"] is not None:
        for name, values in second["logprobs"].items():
            lists[name] += values  # type: ignore[literal-required]
    return {
        "index": first["index"],
        "text": first["text"] + second["text"],
        "logprobs": lists,
        "finish_reason": second["finish_reason"],
    }
