"""Turns a chat's tools and `tool_choice` into what the template shows, what the output is held to,
and how it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from ingot.errors import RequestError
from ingot.runtime.constraints import Constraint, JsonObject, JsonSchema
from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.schemas.chat import ChatBody, NamedTool, Tool
from ingot.runtime.server.state import ServerState
from ingot.runtime.server.tool_grammars import HeldTools, make_grammar
from ingot.runtime.server.tool_schemas import parameters_schema, required_schema
from ingot.runtime.server.tool_streams import (
    ContentStream,
    NamedToolStream,
    OutputStream,
    ParsedToolStream,
    RequiredToolStream,
)

DEFAULT_ID_LENGTH = 24
ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """`constraint` is what the whole output is held to, `make_stream` makes the reader of one."""

    shown: list[Tool] | None
    constraint: Constraint | None
    make_stream: Callable[[], OutputStream]


def plan_tools(state: ServerState, body: ChatBody, form: Constraint | None) -> ToolPlan:
    """`form` is what the request wants the answer to look like, where it calls no tool."""
    tools, choice = body.tools, body.tool_choice
    if not tools:
        if choice not in (None, "none", "auto"):
            raise bad_request("tool_choice asks for a call, and there are no tools", "tool_choice")
        return ToolPlan(None, form, ContentStream)
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise bad_request("two of the tools have the same name", "tools")
    if choice == "none":
        return ToolPlan(None, form, ContentStream)
    if form is not None and not isinstance(form, JsonSchema | JsonObject):
        raise bad_request(
            "beside tool calls an answer can be JSON or free, and this request gives it another "
            'form; drop one of them, or set tool_choice to "none"',
            "tools",
        )
    parallel = body.parallel_tool_calls is not False
    id_length = state.tool_format.id_length if state.tool_format else DEFAULT_ID_LENGTH
    if choice is None or choice == "auto":
        return _automatic(state, tools, form, parallel=parallel)
    if isinstance(choice, NamedTool):
        return _named(tools, choice.function.name, id_length)
    constraint = JsonSchema(required_schema(tools, parallel=parallel))
    return ToolPlan(tools, constraint, lambda: RequiredToolStream(id_length))


def _automatic(
    state: ServerState,
    tools: list[Tool],
    answer: JsonSchema | JsonObject | None,
    *,
    parallel: bool,
) -> ToolPlan:
    """The model calls tools by itself. Calls are held to the tools' schemas if one of these is
    strict, or if the answer has a form: where the one ends and the other begins is then known."""
    form = state.tool_format
    if form is None or not state.takes_tools:
        raise bad_request(
            "this model's chat template has no tool calls that this server can read; set "
            'tool_choice to "required" or to a function, which holds the answer to it, or '
            "start the server with --tool-parser",
            "tools",
        )
    constraint: Constraint | None = None
    if answer is not None or any(tool.function.strict for tool in tools):
        schema = json.loads(answer.text) if isinstance(answer, JsonSchema) else ANY_OBJECT
        held = HeldTools(
            tools, parallel, state.engine.tokenizer.tool_marks, None if answer is None else schema
        )
        try:
            constraint = make_grammar(form.name, held)
        except RequestError as error:
            raise bad_request(str(error), "tools") from None
    parameters = {tool.function.name: parameters_schema(tool) for tool in tools}
    return ToolPlan(
        tools, constraint, lambda: ParsedToolStream(form, parameters, parallel=parallel)
    )


def _named(tools: list[Tool], name: str, id_length: int) -> ToolPlan:
    chosen = next((tool for tool in tools if tool.function.name == name), None)
    if chosen is None:
        raise bad_request(
            f"tool_choice names {name!r}, which is not among the tools", "tool_choice"
        )
    constraint = JsonSchema(parameters_schema(chosen))
    return ToolPlan(tools, constraint, lambda: NamedToolStream(name, id_length))
