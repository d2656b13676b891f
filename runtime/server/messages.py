"""Turns a chat's messages and tools, as OpenAI writes them, into what chat templates expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingot.errors import RequestError
from ingot.runtime.server.encoding import encode_text
from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.schemas.base import parse_json
from ingot.runtime.server.schemas.chat import Content, Message, Tool
from ingot.runtime.server.state import ServerState

RESERVED = ("messages", "tools")
# A template is a stranger's code: on messages that it doesn't expect it may raise any of these.
TEMPLATE_ERRORS = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def as_text(content: Content | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def to_template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Text for content, "system" for "developer", arguments as objects; no keys that are empty:
    templates ask whether they are there."""
    return [_to_template(index, message) for index, message in enumerate(messages)]


def _to_template(index: int, message: Message) -> dict[str, Any]:
    where = f"messages[{index}]"
    if message.content is None and not message.tool_calls:
        raise bad_request(f"{where}.content is missing", f"{where}.content")
    if message.tool_calls and message.role != "assistant":
        raise bad_request(f"{where}.tool_calls stand in an assistant's message", where)
    if message.tool_call_id is not None and message.role != "tool":
        raise bad_request(f"{where}.tool_call_id stands in a tool's message", where)
    role = "system" if message.role == "developer" else message.role
    record: dict[str, Any] = {"role": role, "content": as_text(message.content)}
    for name in ("name", "tool_call_id", "reasoning_content"):
        if getattr(message, name) is not None:
            record[name] = getattr(message, name)
    if message.tool_calls:
        record["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": _read_arguments(
                        call.function.arguments, f"{where}.tool_calls[{place}].function.arguments"
                    ),
                },
            }
            for place, call in enumerate(message.tool_calls)
        ]
    return record


def _read_arguments(text: str, where: str) -> dict[str, Any]:
    try:
        value = parse_json(text or "{}")
    except ValueError as error:
        raise bad_request(f"{where} is not JSON: {error}", where) from None
    if not isinstance(value, dict):
        raise bad_request(f"{where} is the text of a JSON object", where)
    return value


def format_chat(
    state: ServerState,
    messages: Sequence[Message],
    tools: Sequence[Tool] | None,
    variables: Mapping[str, Any] | None,
) -> str:
    """The prompt that asks for the next assistant message."""
    if state.template is None:
        raise bad_request(
            "the model has no chat template, so it can't chat; use /v1/completions, or start the "
            "server with --chat-template FILE or --chat-template plain",
            "messages",
            "no_chat_template",
        )
    given = dict(variables or {})
    for name in RESERVED:
        if name in given:
            raise bad_request(f"chat_template_kwargs has {name}, which has a field of its own")
    shown = [tool.model_dump(exclude_none=True) for tool in tools or ()]
    if shown:
        given["tools"] = shown
    try:
        return state.template.render(to_template_messages(messages), **given)
    except RequestError as error:
        raise bad_request(str(error), "messages") from None
    except TEMPLATE_ERRORS as error:
        raise bad_request(
            f"the chat template failed on these messages: {error}", "messages"
        ) from None


async def encode_chat(
    state: ServerState,
    messages: Sequence[Message],
    tools: Sequence[Tool] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> list[int]:
    text = format_chat(state, messages, tools, variables)
    # The template writes the special tokens itself; adding them would double the first.
    return await encode_text(state, text, add_special_tokens=False, param="messages")
