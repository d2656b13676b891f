"""Turns a request's tools into a grammar: text is free until a call begins, and the call is held to
the tools' names and schemas, in the form that the model has learnt.

One function a format, under the same names as in `tool_formats`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingot.errors import RequestError
from ingot.runtime.constraints import Grammar
from ingot.runtime.constraints.matcher import JSON_OPTIONS
from ingot.runtime.server.schemas.chat import Tool
from ingot.runtime.server.tool_formats import is_bare_text
from ingot.runtime.server.tool_schemas import (
    MAX_REQUIRED_CALLS,
    call_schema,
    move_references,
    parameters_schema,
    required_schema,
    without_notes,
)

# The keywords of a schema that a format with one place for each argument can hold.
PLAIN_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "$defs", "definitions", "strict"}
    | {"title", "description", "$schema", "$id", "$comment", "default", "examples"}
)
# What of a text's schema is no wish about its form.
BARE_KEYWORDS = frozenset({"type", "enum", "title", "description", "default", "examples"})

TERMINALS = r"""
TEXT: /(?s:.*)/
WS: /[ \t\n]{1,8}/
"""


@dataclass(frozen=True, slots=True)
class HeldTools:
    """`marks` are the tokenizer's special tokens among the marks of calls. With `answer`, a JSON
    schema, the output is either calls or such an answer, else calls or any text."""

    tools: Sequence[Tool]
    parallel: bool
    marks: Mapping[str, int]
    answer: dict[str, Any] | None = None

    def more(self, rules: str) -> str:
        """The calls after the first, where nothing but calls may stand."""
        return f"({rules}){{0,{MAX_REQUIRED_CALLS - 1}}}" if self.parallel else ""

    def mark(self, text: str) -> str:
        """How a grammar names the mark: special tokens are no text to it."""
        return f"<[{self.marks[text]}]>" if text in self.marks else quote(text)

    def opened(self, mark: str, free: str = "TEXT") -> str:
        """The rule `opened`: free text, and the mark that a call begins with."""
        if mark in self.marks:
            return f"opened: {free} {self.mark(mark)}\n"
        return f"opened[lazy]: {free} {quote(mark)}\n"


def make_grammar(format_name: str, held: HeldTools) -> Grammar:
    """Raises RequestError if this format can't hold one of the schemas."""
    return Grammar(GRAMMARS[format_name](held) + TERMINALS)


def quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def inline(schema: dict[str, Any]) -> str:
    """A schema inside a grammar, a value a line: what a line may cost is bounded."""
    given = schema.get("x-guidance")
    options = {**JSON_OPTIONS, **(given if isinstance(given, dict) else {})}
    text = json.dumps({**without_notes(schema), "x-guidance": options}, indent=0)
    return f"%json {text}\n"


def start_of_marked(held: HeldTools, mark: str) -> str:
    """For calls that each begin with a mark, `call` being what follows it."""
    repeat = "*" if held.parallel else "?"
    if held.answer is None:
        return f"start: (opened call){repeat} TEXT\n" + held.opened(mark)
    more = held.more(f"WS? {held.mark(mark)} call")
    return (
        f"start: WS? answer WS? | WS? {held.mark(mark)} call {more} WS?\n"
        f"answer: {inline(held.answer)}"
    )


def start_of_leading(held: HeldTools, letter: str, mark: str | None = None) -> str:
    """For calls that the output begins with, `calls`, or that follow a mark."""
    if held.answer is not None:
        tagged = "" if mark is None else f" | WS? {held.mark(mark)} calls WS?"
        return f"start: WS? calls WS? | WS? answer WS?{tagged}\nanswer: {inline(held.answer)}"
    free = rf"FREE: /\s*([^\{letter}\s](?s:.*))?/" + "\n"
    if mark is None:
        return f"start: WS? calls WS? | FREE\n{free}"
    return f"start: WS? calls WS? | FREE | opened calls WS?\n{free}" + held.opened(mark, "FREE")


def hold_hermes(held: HeldTools) -> str:
    return (
        start_of_marked(held, "<tool_call>")
        + f"call: WS? body WS? {held.mark('</tool_call>')}\n"
        + f"body: {inline(call_schema(held.tools))}"
    )


def hold_mistral(held: HeldTools) -> str:
    """A list after one mark, or a mark, a name and arguments for each call."""
    arguments_mark = f"({held.mark('[ARGS]')})? "
    lines = ["call: WS? list | WS? named"]
    lines += [f"list: {inline(required_schema(held.tools, parallel=held.parallel))}"]
    lines += ["named: " + " | ".join(f"named{index}" for index in range(len(held.tools)))]
    for index, tool in enumerate(held.tools):
        name = quote(tool.function.name)
        lines.append(f"named{index}: {name} {arguments_mark}arguments{index}")
        lines.append(f"arguments{index}: {inline(parameters_schema(tool))}")
    return start_of_marked(held, "[TOOL_CALLS]") + "\n".join(lines)


def hold_llama(held: HeldTools) -> str:
    more = held.more('WS? ";" WS? call')
    return (
        start_of_leading(held, "{", "<|python_tag|>")
        + f"calls: call {more}\n"
        + f"call: {inline(call_schema(held.tools, 'parameters'))}"
    )


def hold_xml(held: HeldTools) -> str:
    """Texts stand as they are, all other values as JSON."""
    lines = [f"call: WS? tool WS? {held.mark('</tool_call>')}"]
    lines += ["tool: " + " | ".join(f"tool{index}" for index in range(len(held.tools)))]
    lines += [r"bare[lazy]: /(?s:.*)<\/parameter>/"]
    for index, tool in enumerate(held.tools):
        items = ""
        for place, rule in enumerate(argument_rules(tool)):
            name = f"argument{index}_{place}"
            items += f" ({name} WS?)" + ("" if rule.is_required else "?")
            lines += _xml_argument(name, rule)
        opening = quote(f"<function={tool.function.name}>")
        lines.append(f'tool{index}: {opening} WS?{items} "</function>"')
    return start_of_marked(held, "<tool_call>") + "\n".join(lines) + "\n"


def _xml_argument(name: str, rule: ArgumentRule) -> list[str]:
    opening = f"{name}: {quote(f'<parameter={rule.name}>')} WS?"
    if not is_bare_text(rule.schema):
        value = f"{name}_value"
        return [f'{opening} {value} WS? "</parameter>"', f"{value}: {inline(rule.schema)}"]
    if unknown := sorted(set(rule.schema) - BARE_KEYWORDS):
        raise RequestError(
            f"the argument {rule.name} has {', '.join(unknown)}: this model writes texts without "
            "quotes, and they can't be held to that"
        )
    if "enum" not in rule.schema:
        return [f"{opening} bare"]
    options = " | ".join(quote(str(option)) for option in rule.schema["enum"])
    return [f'{opening} ({options}) WS? "</parameter>"']


def hold_pythonic(held: HeldTools) -> str:
    """Values are JSON: what Python writes differently, `tool_formats` reads both ways."""
    more = held.more('"," WS? tool')
    lines = [f'calls: "[" tool {more} "]"']
    lines += ["tool: " + " | ".join(f"tool{index}" for index in range(len(held.tools)))]
    for index, tool in enumerate(held.tools):
        rules = argument_rules(tool)
        for name in (tool.function.name, *(rule.name for rule in rules)):
            if not name.isidentifier():
                raise RequestError(
                    f"{name!r} is no name in Python, which this model writes calls in"
                )
        # A comma stands before each argument but the first: what "begin" and "more" tell apart.
        lines.append(f'tool{index}: "{tool.function.name}(" begin{index}_0 ")"')
        for place, rule in enumerate(rules):
            name = f"argument{index}_{place}"
            lines.append(f'{name}: "{rule.name}=" {name}_value')
            lines.append(f"{name}_value: {inline(rule.schema)}")
            for state, comma in (("begin", ""), ("more", '"," WS? ')):
                skip = "" if rule.is_required else f" | {state}{index}_{place + 1}"
                lines.append(f"{state}{index}_{place}: {comma}{name} more{index}_{place + 1}{skip}")
        lines += [f'{state}{index}_{len(rules)}: ""' for state in ("begin", "more")]
    return start_of_leading(held, "[") + "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class ArgumentRule:
    """One argument of a tool whose arguments are written one by one."""

    name: str
    schema: dict[str, Any]
    is_required: bool


def argument_rules(tool: Tool) -> list[ArgumentRule]:
    root = parameters_schema(tool)
    properties, required = root.get("properties", {}), root.get("required", [])
    unknown = sorted(set(root) - PLAIN_KEYWORDS)
    if unknown:
        raise RequestError(
            f"the parameters of {tool.function.name} have {', '.join(unknown)}: this model writes "
            "each argument by itself, and they can't be held to that together"
        )
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise RequestError(f"the parameters of {tool.function.name} are no JSON schema")
    if missing := [name for name in required if name not in properties]:
        raise RequestError(
            f"{tool.function.name} requires {missing[0]!r}, which it doesn't describe"
        )
    return [
        ArgumentRule(name, _alone(schema, name, root), name in required)
        for name, schema in properties.items()
    ]


def _alone(schema: Any, name: str, root: dict[str, Any]) -> dict[str, Any]:
    """A property's schema, out of the tool's; where it refers to others, with all of them."""
    if not isinstance(schema, dict):
        return {} if schema is True else {"not": {}}
    if '"$ref"' not in json.dumps(schema):
        return schema
    place = name.replace("~", "~0").replace("/", "~1")
    moved = move_references(root, "#/$defs/tool")
    return {"$ref": f"#/$defs/tool/properties/{place}", "$defs": {"tool": moved}}


GRAMMARS: dict[str, Callable[[HeldTools], str]] = {
    "xml": hold_xml,
    "hermes": hold_hermes,
    "mistral": hold_mistral,
    "pythonic": hold_pythonic,
    "llama3": hold_llama,
}
