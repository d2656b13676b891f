"""Turns a chat's tools and `tool_choice` into what the template shows, what the output is held to,
and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ingot.runtime.constraints import Constraint, JsonSchema
from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.schemas.chat import ChatBody, NamedTool, Tool
from ingot.runtime.server.state import ServerState
from ingot.runtime.server.tool_streams import (
    ContentStream,
    NamedToolStream,
    OutputStream,
    ParsedToolStream,
    RequiredToolStream,
)

MAX_REQUIRED_CALLS = 16
DEFAULT_ID_LENGTH = 24


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """`make_stream` makes the reader of one output."""

    shown: list[Tool] | None
    constraint: Constraint | None
    make_stream: Callable[[], OutputStream]


NO_TOOLS = ToolPlan(None, None, ContentStream)


def plan_tools(state: ServerState, body: ChatBody) -> ToolPlan:
    tools, choice = body.tools, body.tool_choice
    if not tools:
        if choice not in (None, "none", "auto"):
            raise bad_request("tool_choice asks for a call, and there are no tools", "tool_choice")
        return NO_TOOLS
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise bad_request("two of the tools have the same name", "tools")
    if choice == "none":
        return NO_TOOLS
    parallel = body.parallel_tool_calls is not False
    form = state.tool_format
    id_length = form.id_length if form else DEFAULT_ID_LENGTH
    if choice is None or choice == "auto":
        if form is None or not state.takes_tools:
            raise bad_request(
                "this model's chat template has no tool calls that this server can read; set "
                'tool_choice to "required" or to a function, which holds the answer to it, or '
                "start the server with --tool-parser",
                "tools",
            )
        return ToolPlan(tools, None, lambda: ParsedToolStream(form, names, parallel=parallel))
    if isinstance(choice, NamedTool):
        return _named(tools, choice.function.name, id_length)
    constraint = JsonSchema(required_schema(tools, parallel=parallel))
    return ToolPlan(tools, constraint, lambda: RequiredToolStream(id_length))


def _named(tools: list[Tool], name: str, id_length: int) -> ToolPlan:
    chosen = next((tool for tool in tools if tool.function.name == name), None)
    if chosen is None:
        raise bad_request(
            f"tool_choice names {name!r}, which is not among the tools", "tool_choice"
        )
    constraint = JsonSchema(parameters_schema(chosen))
    return ToolPlan(tools, constraint, lambda: NamedToolStream(name, id_length))


def parameters_schema(tool: Tool) -> dict[str, Any]:
    """What the arguments are held to; a tool without parameters takes an empty object."""
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    return tool.function.parameters or nothing


def required_schema(tools: list[Tool], *, parallel: bool) -> dict[str, Any]:
    """A list of calls. Each tool's schema keeps a place of its own, which its references name."""
    calls = []
    places = {}
    for index, tool in enumerate(tools):
        place = f"tool{index}"
        places[place] = _move_references(parameters_schema(tool), f"#/$defs/{place}")
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.function.name},
                    "arguments": {"$ref": f"#/$defs/{place}"},
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return {
        "type": "array",
        "items": calls[0] if len(calls) == 1 else {"anyOf": calls},
        "minItems": 1,
        "maxItems": MAX_REQUIRED_CALLS if parallel else 1,
        "$defs": places,
    }


def _move_references(schema: Any, root: str) -> Any:
    """References from a schema's own root, for when it stands inside another. Bodies are checked
    for their depth before."""
    if isinstance(schema, list):
        return [_move_references(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _move_references(value, root) for name, value in schema.items()}
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        moved["$ref"] = root + target[1:]
    return moved
