"""`/v1/chat/completions`: a conversation to its next message, whole or as a stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ingot.runtime.outputs import Chunk, TokenLogprob
from ingot.runtime.server.answers import answer
from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.generation import CHAT, Generation, finish_name
from ingot.runtime.server.logprobs import chat_logprobs
from ingot.runtime.server.messages import encode_chat
from ingot.runtime.server.middleware import KEY_NAME
from ingot.runtime.server.sampling import make_options, make_params, read_constraint
from ingot.runtime.server.schemas.chat import ChatBody
from ingot.runtime.server.schemas.replies import (
    ChatChunkChoice,
    ChatReply,
    Delta,
    MessageReply,
    ToolCallReply,
)
from ingot.runtime.server.sse import STREAMED, Event
from ingot.runtime.server.state import ServerState, get_state
from ingot.runtime.server.tool_choice import ToolPlan, plan_tools
from ingot.runtime.server.tool_streams import OutputStream, Piece, ToolDelta

router = APIRouter()


@router.post("/v1/chat/completions", responses={200: {"model": ChatReply, **STREAMED}})
async def create_chat_completion(body: ChatBody, request: Request) -> Response:
    """Answer a conversation."""
    state = get_state(request)
    state.check_model(body.model)
    plan = plan_tools(state, body, read_constraint(body, body.response_format))
    max_tokens = read_max_tokens(body)
    params = make_params(
        body,
        state.defaults,
        max_tokens=max_tokens,
        constraint=plan.constraint,
        logprobs=read_top_logprobs(body),
    )
    options = make_options(body, request.scope[KEY_NAME], state.settings.request_timeout_s)
    variables = dict(body.chat_template_kwargs or {})
    if body.reasoning_effort is not None:
        variables["reasoning_effort"] = body.reasoning_effort
    prompt = await encode_chat(state, body.messages, plan.shown, variables)
    generation = Generation(
        state, CHAT, body.model, [prompt], params, options, request.scope[KEY_NAME]
    )
    writer = ChatWriter(state, generation, plan, has_logprobs=bool(body.logprobs))
    return await answer(request, body, generation, writer)


def read_max_tokens(body: ChatBody) -> int | None:
    """OpenAI renamed the field; either is taken, None for as many as the context holds."""
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise bad_request("max_tokens and max_completion_tokens are both given and differ")
    return new if new is not None else old


def read_top_logprobs(body: ChatBody) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise bad_request("top_logprobs needs logprobs: true", "top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


class ChatWriter:
    """Writes the answers of one request."""

    def __init__(
        self,
        state: ServerState,
        generation: Generation,
        plan: ToolPlan,
        *,
        has_logprobs: bool,
    ) -> None:
        self._state = state
        self._generation = generation
        self._plan = plan
        self._has_logprobs = has_logprobs
        self._outputs: dict[int, OutputStream] = {}
        self._has_calls: set[int] = set()

    def _read(self, index: int, chunk: Chunk) -> Piece:
        """What the chunk adds to its output: content and calls."""
        output = self._outputs.get(index)
        if output is None:
            output = self._outputs[index] = self._plan.make_stream()
        piece = output.push(chunk.text)
        if chunk.finish_reason is not None:
            rest = output.finish()
            piece = Piece(piece.content + rest.content, piece.tools + rest.tools)
        if piece.tools:
            self._has_calls.add(index)
        return piece

    def _finish(self, index: int, chunk: Chunk) -> str | None:
        name = finish_name(chunk)
        return "tool_calls" if name == "stop" and index in self._has_calls else name

    async def reply(self) -> dict[str, Any]:
        choices = [_Choice() for _ in range(self._generation.num_outputs)]
        async with aclosing(self._generation.chunks()) as chunks:
            async for index, chunk in chunks:
                choices[index].add(self._read(index, chunk), chunk.logprobs)
                choices[index].finish_reason = self._finish(index, chunk) or ""
        return {
            **self._generation.frame(),
            "object": "chat.completion",
            "choices": [
                {
                    "index": index,
                    "message": choice.message(),
                    "logprobs": chat_logprobs(self._state.token_bytes, choice.logprobs)
                    if self._has_logprobs
                    else None,
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(choices)
            ],
            "usage": self._generation.usage(),
        }

    async def events(self, *, include_usage: bool) -> AsyncGenerator[Event, None]:
        begun: set[int] = set()
        async with aclosing(self._generation.chunks()) as chunks:
            async for index, chunk in chunks:
                if index not in begun:
                    begun.add(index)
                    yield self._event(index, {"role": "assistant", "content": ""}, include_usage)
                event = self._chunk_event(index, chunk, include_usage)
                if event is not None:
                    yield event
        if include_usage:
            yield {**self._frame(), "choices": [], "usage": self._generation.usage()}

    def _chunk_event(self, index: int, chunk: Chunk, include_usage: bool) -> Event | None:
        piece = self._read(index, chunk)
        delta: Delta = {}
        if piece.content:
            delta["content"] = piece.content
        if piece.tools:
            delta["tool_calls"] = [_tool_delta(tool) for tool in piece.tools]
        finish = self._finish(index, chunk)
        if not delta and finish is None and not (self._has_logprobs and chunk.logprobs):
            return None  # text is held back
        return self._event(index, delta, include_usage, chunk.logprobs, finish)

    def _event(
        self,
        index: int,
        delta: Delta,
        include_usage: bool,
        logprobs: tuple[TokenLogprob, ...] = (),
        finish: str | None = None,
    ) -> Event:
        shown = self._has_logprobs and logprobs
        choice: ChatChunkChoice = {
            "index": index,
            "delta": delta,
            "logprobs": chat_logprobs(self._state.token_bytes, logprobs) if shown else None,
            "finish_reason": finish,
        }
        event = {**self._frame(), "choices": [choice]}
        if include_usage:
            event["usage"] = None
        return event

    def _frame(self) -> dict[str, Any]:
        return {**self._generation.frame(), "object": "chat.completion.chunk"}


def _tool_delta(tool: ToolDelta) -> ToolCallReply:
    if not tool.id:
        return {"index": tool.index, "function": {"arguments": tool.arguments}}
    return {
        "index": tool.index,
        "id": tool.id,
        "type": "function",
        "function": {"name": tool.name, "arguments": tool.arguments},
    }


class _Choice:
    """One output, as its pieces are put together."""

    def __init__(self) -> None:
        self.content = ""
        self.calls: list[ToolCallReply] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason = ""

    def add(self, piece: Piece, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.content += piece.content
        self.logprobs += logprobs
        for tool in piece.tools:
            if tool.id:
                call = _tool_delta(tool)
                del call["index"]
                self.calls.append(call)
            else:
                self.calls[tool.index]["function"]["arguments"] += tool.arguments

    def message(self) -> MessageReply:
        message: MessageReply = {"role": "assistant", "content": self.content, "refusal": None}
        if self.calls:
            message["content"] = self.content.strip() or None
            message["tool_calls"] = self.calls
        return message
