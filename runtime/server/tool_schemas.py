"""Turns the schemas of a request's tools into one schema for calls of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingot.runtime.server.schemas.chat import Tool

MAX_REQUIRED_CALLS = 16
NOTES = ("title", "description", "$comment")
VALUES = ("const", "enum", "default", "examples")  # any JSON, and no schemas


def parameters_schema(tool: Tool) -> dict[str, Any]:
    """What the arguments are held to; a tool without parameters takes an empty object."""
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    return tool.function.parameters or nothing


def call_schema(tools: Sequence[Tool], arguments_key: str = "arguments") -> dict[str, Any]:
    """One call, `{"name": ..., "arguments": {...}}`. Each tool's schema keeps a place of its own,
    which its references name."""
    calls = []
    places = {}
    for index, tool in enumerate(tools):
        place = f"tool{index}"
        places[place] = move_references(parameters_schema(tool), f"#/$defs/{place}")
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.function.name},
                    arguments_key: {"$ref": f"#/$defs/{place}"},
                },
                "required": ["name", arguments_key],
                "additionalProperties": False,
            }
        )
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), "$defs": places}


def required_schema(tools: Sequence[Tool], *, parallel: bool) -> dict[str, Any]:
    """A list of calls."""
    call = call_schema(tools)
    places = call.pop("$defs")
    return {
        "type": "array",
        "items": call,
        "minItems": 1,
        "maxItems": MAX_REQUIRED_CALLS if parallel else 1,
        "$defs": places,
    }


def move_references(schema: Any, root: str) -> Any:
    """References from a schema's own root, for when it stands inside another. Bodies are checked
    for their depth before."""
    if isinstance(schema, list):
        return [move_references(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: move_references(value, root) for name, value in schema.items()}
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        moved["$ref"] = root + target[1:]
    return moved


def without_notes(schema: Any) -> Any:
    """What a reader is told isn't compiled, and is often most of the text."""
    if isinstance(schema, list):
        return [without_notes(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value if name in VALUES else without_notes(value)
        for name, value in schema.items()
        if not (name in NOTES and isinstance(value, str))  # else it is a property of that name
    }
