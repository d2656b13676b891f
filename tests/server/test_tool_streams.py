"""Calls come out of a stream of pieces the same, wherever the pieces are cut."""

import random

import pytest

from ingot.runtime.server.tool_formats import FORMATS
from ingot.runtime.server.tool_streams import (
    NamedToolStream,
    OutputStream,
    ParsedToolStream,
    RequiredToolStream,
)

HERMES_CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
Result = tuple[str, list[tuple[str, str]]]


def read(stream: OutputStream, pieces: list[str]) -> Result:
    content = ""
    calls: list[list[str]] = []
    for piece in [*(stream.push(text) for text in pieces), stream.finish()]:
        content += piece.content
        for tool in piece.tools:
            if tool.id:
                assert tool.index == len(calls)
                calls.append([tool.name, ""])
            calls[tool.index][1] += tool.arguments
    return content, [(name, arguments) for name, arguments in calls]


def cut(text: str, seed: int) -> list[str]:
    random.seed(seed)
    pieces = []
    while text:
        length = random.randint(1, 7)
        pieces.append(text[:length])
        text = text[length:]
    return pieces


XML_CALL = (
    "<tool_call>\n<function=f>\n<parameter=s>\n1\n</parameter>\n<parameter=x>\n1\n</parameter>\n"
    "</function>\n</tool_call>"
)
CALL = ("f", '{"x": 1}')
TOOLS: dict[str, dict[str, object]] = {"f": {"properties": {"s": {"type": "string"}}}, "g": {}}
CASES: list[tuple[str, str, Result]] = [
    ("hermes", "no call", ("no call", [])),
    ("hermes", HERMES_CALL, ("", [CALL])),
    ("hermes", f"Well.\n{HERMES_CALL}", ("Well.\n", [CALL])),
    ("hermes", f"{HERMES_CALL}\n{HERMES_CALL}\n", ("", [CALL, CALL])),
    ("hermes", f"  {HERMES_CALL}\n after ", ("after ", [CALL])),
    ("hermes", "a <tool_ b <tool_call", ("a <tool_ b <tool_call", [])),
    ("hermes", "<tool_call>broken</tool_call> x", ("<tool_call>broken</tool_call> x", [])),
    ("hermes", '<tool_call>{"name": "f", "argum', ('<tool_call>{"name": "f", "argum', [])),
    ("hermes", HERMES_CALL.replace('"f"', '"h"'), (HERMES_CALL.replace('"f"', '"h"'), [])),
    ("llama3", '{"name": "f", "parameters": {"x": 1}}', ("", [CALL])),
    ("llama3", '\n{"name": "f", "parameters": {"x": 1}}', ("", [CALL])),
    ("llama3", '{"city": "Paris"}', ('{"city": "Paris"}', [])),
    ("llama3", 'See {"name": "f"}', ('See {"name": "f"}', [])),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}]', ("", [CALL])),
    ("mistral", "See. [TOOL_CALLS]f{}[TOOL_CALLS]f{}", ("See. ", [("f", "{}"), ("f", "{}")])),
    ("mistral", "[1, 2]", ("[1, 2]", [])),
    ("xml", XML_CALL, ("", [("f", '{"s": "1", "x": 1}')])),
    ("pythonic", "[f(x=1)]", ("", [CALL])),
    ("pythonic", "[see below]", ("[see below]", [])),
    ("pythonic", "", ("", [])),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1][:20]!r}")
@pytest.mark.parametrize("seed", range(4))
def test_cuts_change_nothing(case: tuple[str, str, Result], seed: int) -> None:
    name, text, expected = case
    pieces = [text] if seed == 0 else cut(text, seed)
    assert read(ParsedToolStream(FORMATS[name], TOOLS), pieces) == expected


def test_content_is_not_held_back() -> None:
    stream = ParsedToolStream(FORMATS["hermes"], {"f": {}})
    assert stream.push("Hello <to").content == "Hello "
    assert stream.push("ols>").content == "<tools>"


def test_one_call_at_a_time() -> None:
    stream = ParsedToolStream(FORMATS["hermes"], {"f": {}}, parallel=False)
    assert read(stream, [HERMES_CALL, HERMES_CALL]) == ("", [CALL])


@pytest.mark.parametrize("seed", range(4))
def test_a_list_by_constraint_goes_out_call_by_call(seed: int) -> None:
    text = '[ {"name": "f", "arguments": {"x": 1}}, {"name":"g","arguments":{"a":{}}} ]'
    expected = ("", [CALL, ("g", '{"a": {}}')])
    assert read(RequiredToolStream(), cut(text, seed)) == expected
    assert read(RequiredToolStream(), cut(text[:50], seed)) == ("", [CALL])
    assert read(RequiredToolStream(), cut(text[:20], seed)) == (text[:20], [])


def test_arguments_by_constraint_stream_as_they_come() -> None:
    assert read(NamedToolStream("f"), ["", '{"x"', ": 1}"]) == ("", [CALL])


def test_ids_are_as_long_as_templates_insist() -> None:
    form = FORMATS["mistral"]
    piece = ParsedToolStream(form, {"f": {}}).push("")
    assert not piece
    stream = ParsedToolStream(form, {"f": {}})
    stream.push("[TOOL_CALLS]f{}")
    (tool,) = stream.finish().tools
    assert len(tool.id) == 9 and tool.id.replace("_", "").isalnum()
