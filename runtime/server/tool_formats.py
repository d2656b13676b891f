"""Turns the text of a tool call, as a family of models writes it, into a name and arguments.

One row of FORMATS a family; the row is chosen by the chat template's own text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ingot.errors import UsageError
from ingot.runtime.server.schemas.base import parse_json


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: str  # a JSON object


@dataclass(frozen=True, slots=True)
class Start:
    """Text that a call begins with; `leading` ones count at the start of the output only."""

    text: str
    leading: bool = False


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """`parse` takes the text from a start to the next `end`, both included, or to the output's
    end, and raises ValueError if it is no call. `templates` are found in the chat templates of
    models that write so. With `has_bare_values`, `parse` gives all arguments as texts, and the
    tool's schema says what they are."""

    name: str
    templates: tuple[str, ...]
    starts: tuple[Start, ...]
    end: str | None
    parse: Callable[[str], list[Call]]
    has_bare_values: bool = False
    id_length: int = 24  # of a call's id, after "call_"; 9 in all for templates that insist


def read_call(value: Any) -> Call:
    """`{"name": ..., "arguments": {...}}`; Llama says "parameters"."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a call has a name")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = parse_json(arguments)
    if not isinstance(arguments, dict):
        raise ValueError("arguments are an object")
    return Call(value["name"], json.dumps(arguments, ensure_ascii=False))


def parse_hermes(text: str) -> list[Call]:
    inner = text.removeprefix("<tool_call>").strip().removesuffix("</tool_call>")
    return [read_call(parse_json(inner))]


_XML_FUNCTION = re.compile(r"<function=([^>\n]+)>(.*?)(?:</function>|$)", re.DOTALL)
_XML_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


def parse_xml(text: str) -> list[Call]:
    calls = []
    for name, body in _XML_FUNCTION.findall(text):
        arguments = dict(_XML_PARAMETER.findall(body))
        calls.append(Call(name, json.dumps(arguments, ensure_ascii=False)))
    if not calls:
        raise ValueError("there is no function")
    return calls


def is_bare_text(schema: Any) -> bool:
    """Whether a value that stands without quotes is a text, whatever it looks like."""
    return isinstance(schema, dict) and schema.get("type") == "string"


def read_bare_values(call: Call, parameters: Mapping[str, Any]) -> Call:
    """Texts stay texts; of all others those that are JSON are taken as such."""
    properties = parameters.get("properties")
    schemas = properties if isinstance(properties, dict) else {}
    arguments = json.loads(call.arguments)
    for name, text in arguments.items():
        if not is_bare_text(schemas.get(name)):
            try:
                arguments[name] = parse_json(text)
            except ValueError:
                continue
    return Call(call.name, json.dumps(arguments, ensure_ascii=False))


def parse_llama(text: str) -> list[Call]:
    """One object, or several with semicolons between them."""
    rest = text.removeprefix("<|python_tag|>").strip()
    decoder = json.JSONDecoder()
    calls = []
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        calls.append(read_call(value))
        rest = rest[end:].lstrip(" \n;")
    if not calls:
        raise ValueError("there is no call")
    return calls


def parse_mistral(text: str) -> list[Call]:
    """`[TOOL_CALLS][{...}, ...]`, or newer: `[TOOL_CALLS]name{...}` for each call."""
    rest = text.removeprefix("[TOOL_CALLS]").strip()
    if rest.startswith("["):
        values = parse_json(rest)
        if not values:
            raise ValueError("there is no call")
        return [read_call(value) for value in values]
    calls = []
    for part in rest.split("[TOOL_CALLS]"):
        name, brace, arguments = part.partition("{")
        name = name.split("[CALL_ID]")[0].removesuffix("[ARGS]").strip()
        if not brace or not re.fullmatch(r"[\w.-]+", name):
            raise ValueError("a call is a name and an object")
        calls.append(read_call({"name": name, "arguments": brace + arguments}))
    return calls


# What JSON writes differently than Python.
_JSON_NAMES = {"true": True, "false": False, "null": None}


class _JsonNames(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_JSON_NAMES[node.id]) if node.id in _JSON_NAMES else node


def _literal(value: ast.expr) -> Any:
    return ast.literal_eval(_JsonNames().visit(value))


def parse_pythonic(text: str) -> list[Call]:
    """`[name(key=value, ...), ...]` with literals of Python or JSON. Nothing is evaluated."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError("it is not an expression") from None
    if not isinstance(tree, ast.List) or not tree.elts:
        raise ValueError("calls are a list")
    calls = []
    for item in tree.elts:
        if not isinstance(item, ast.Call) or item.args or not isinstance(item.func, ast.Name):
            raise ValueError("a call has a name and named arguments")
        if any(keyword.arg is None for keyword in item.keywords):
            raise ValueError("arguments are named")
        try:
            values = {str(word.arg): _literal(word.value) for word in item.keywords}
            arguments = json.dumps(values, ensure_ascii=False)
        except (TypeError, RecursionError):
            raise ValueError("arguments are literals") from None
        calls.append(Call(item.func.id, arguments))
    return calls


# The first whose text is in the template is taken.
FORMATS: dict[str, ToolFormat] = {
    row.name: row
    for row in (
        ToolFormat(
            "xml",
            ("<function=",),
            (Start("<tool_call>"),),
            "</tool_call>",
            parse_xml,
            has_bare_values=True,
        ),
        ToolFormat(
            "hermes", ("<tool_call>",), (Start("<tool_call>"),), "</tool_call>", parse_hermes
        ),
        ToolFormat(
            "mistral",
            ("[TOOL_CALLS]",),
            (Start("[TOOL_CALLS]"),),
            None,
            parse_mistral,
            id_length=4,
        ),
        ToolFormat(
            "pythonic",
            ("[func_name1(",),
            (Start("[", leading=True),),
            None,
            parse_pythonic,
        ),
        ToolFormat(
            "llama3",
            ("<|python_tag|>", '"parameters": dictionary of argument'),
            (Start("<|python_tag|>"), Start("{", leading=True)),
            None,
            parse_llama,
        ),
    )
}  # fmt: skip


def detect_format(template: str) -> ToolFormat | None:
    """How the model that this template was written for calls tools, None if it doesn't."""
    for row in FORMATS.values():
        if any(text in template for text in row.templates):
            return row
    return None


def find_format(name: str) -> ToolFormat:
    if name not in FORMATS:
        raise UsageError(f"the tool parser is {name!r}; it is one of {', '.join(FORMATS)}")
    return FORMATS[name]
