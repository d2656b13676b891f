"""How each family of models writes a tool call, and how its template gives it away."""

import json

import pytest

from ingot.errors import UsageError
from ingot.runtime.server.tool_formats import FORMATS, detect_format, find_format, read_bare_values

CALLS = [("f", {"x": 1, "s": "a"})]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", '<tool_call>\n{"name": "f", "arguments": {"x": 1, "s": "a"}}\n</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1, \\"s\\": \\"a\\"}"}'),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1, "s": "a"}}]'),
        ("mistral", '[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{"x": 1, "s": "a"}'),
        ("mistral", '[TOOL_CALLS]f[ARGS]{"x": 1, "s": "a"}'),
        ("pythonic", '[f(x=1, s="a")]'),
        ("pythonic", "[f(x=1, s='a')]"),
        ("llama3", '{"name": "f", "parameters": {"x": 1, "s": "a"}}'),
        ("llama3", '<|python_tag|>{"name": "f", "parameters": {"x": 1, "s": "a"}}'),
    ],
)
def test_a_call_is_read(name: str, text: str) -> None:
    found = [(call.name, json.loads(call.arguments)) for call in FORMATS[name].parse(text)]
    assert found == CALLS


def test_python_and_json_write_the_same_values() -> None:
    (call,) = FORMATS["pythonic"].parse("[f(a=True, b=false, c=None, d=[null, {'e': true}])]")
    expected = {"a": True, "b": False, "c": None, "d": [None, {"e": True}]}
    assert json.loads(call.arguments) == expected


def test_the_schema_says_what_a_bare_value_is() -> None:
    text = "<tool_call>\n<function=f>\n"
    for name, value in (("x", "1"), ("s", "1"), ("code", "\n  {}\n"), ("odd", "[1"), ("y", "null")):
        text += f"<parameter={name}>\n{value}\n</parameter>\n"
    (call,) = FORMATS["xml"].parse(text + "</function>\n</tool_call>")
    string = {"type": "string"}
    schema = {"properties": {"s": string, "code": string, "x": {"type": "integer"}}}
    expected = {"x": 1, "s": "1", "code": "\n  {}\n", "odd": "[1", "y": None}
    assert json.loads(read_bare_values(call, schema).arguments) == expected


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("llama3", '{"name": "f"}; {"name": "g", "parameters": {}}', ["f", "g"]),
        ("mistral", '[TOOL_CALLS][{"name": "f"}, {"name": "g"}]', ["f", "g"]),
        ("mistral", "[TOOL_CALLS]f{}[TOOL_CALLS]g{}", ["f", "g"]),
        ("pythonic", "[f(), g(x=[1, {'a': None}])]", ["f", "g"]),
        ("xml", "<tool_call><function=f></function><function=g></function>", ["f", "g"]),
    ],
)
def test_several_calls_are_read(name: str, text: str, names: list[str]) -> None:
    assert [call.name for call in FORMATS[name].parse(text)] == names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", "<tool_call>not json</tool_call>"),
        ("hermes", '<tool_call>{"name": 1}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
        ("hermes", "<tool_call>" + "[" * 100_000),
        ("xml", "<tool_call>f(1)</tool_call>"),
        ("mistral", "[TOOL_CALLS][]"),
        ("mistral", "[TOOL_CALLS] hello there"),
        ("llama3", '{"city": "Paris"}'),
        ("llama3", "<|python_tag|>"),
        ("llama3", '{"a":' * 100_000),
        ("pythonic", "[]"),
        ("pythonic", "[1, 2]"),
        ("pythonic", "[f(1)]"),
        ("pythonic", "[f(**x)]"),
        ("pythonic", "[f(x=__import__('os').system('true'))]"),
        ("pythonic", "[f(x=b'bytes')]"),
        ("pythonic", "[f(x={1})]"),
        ("pythonic", "[" + "(" * 10_000),
        ("pythonic", "[f(x=" + "-" * 10_000 + "1)]"),
    ],
)
def test_what_is_no_call_is_told_apart(name: str, text: str) -> None:
    with pytest.raises(ValueError):
        FORMATS[name].parse(text)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ '<tool_call>' }}", "hermes"),
        ("{{ '<tool_call><function=' }}", "xml"),
        ("{{ '[TOOL_CALLS]' }}", "mistral"),
        ("use [func_name1(params_name1=value)]", "pythonic"),
        ('{"name": function name, "parameters": dictionary of argument name', "llama3"),
        ("{{ message.content }}", None),
    ],
)
def test_the_template_tells_the_format(template: str, name: str | None) -> None:
    found = detect_format(template)
    assert (found.name if found else None) == name


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="one of xml, hermes, mistral, pythonic, llama3"):
        find_format("morse")
