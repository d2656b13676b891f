"""The body of `/v1/chat/completions`: messages, tools, and the form of the answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ingot.runtime.server.schemas.base import Body, JsonObject, one_of
from ingot.runtime.server.schemas.sampling import SamplingBody


class TextPart(Body):
    type: Literal["text"]
    text: str


class Echoed(Body):
    """Part of an answer that a client sends back, with whatever its library has added to it."""

    model_config = ConfigDict(extra="ignore")


class FunctionCall(Echoed):
    name: str
    arguments: str


class ToolCall(Echoed):
    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


Content = Annotated[
    str | list[TextPart], one_of('a text, or a list of parts {"type": "text", "text": ...}')
]


class Message(Echoed):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class FunctionTool(Body):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: FunctionTool


class NamedFunction(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: NamedFunction


class SchemaFormat(Body):
    name: Annotated[str, Field(max_length=256)] | None = None
    description: str | None = None
    schema_: Annotated[JsonObject, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None


class ChatBody(SamplingBody):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: (
        Annotated[
            Literal["auto", "none", "required"] | NamedTool,
            one_of(
                '"auto", "none", "required", or {"type": "function", "function": {"name": ...}}'
            ),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None  # for the chat template, if it asks
    chat_template_kwargs: JsonObject | None = None
