"""A grammar a format: text is free, calls are held, and the format's own parser reads them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend

from ingot.errors import RequestError
from ingot.runtime.constraints.matcher import GrammarCompiler
from ingot.runtime.server.schemas.chat import FunctionTool, Tool
from ingot.runtime.server.tool_formats import FORMATS
from ingot.runtime.server.tool_grammars import GRAMMARS, HeldTools, make_grammar
from ingot.runtime.server.tool_streams import ParsedToolStream
from ingot.runtime.tokenizer import TOOL_MARKS, Tokenizer

DEMO = Path(__file__).resolve().parents[2] / "models/demo"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Oslo", "Paris"]},
        "days": {"type": "integer"},
        "note": {"type": "string"},
        "tree": {"$ref": "#/$defs/Tree"},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {
        "Tree": {
            "type": "object",
            "properties": {"next": {"$ref": "#/$defs/Tree"}},
            "additionalProperties": False,
        }
    },
}
ANSWER = {
    "type": "object",
    "properties": {"answer": {"type": "boolean"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def make_tool(name: str, parameters: dict[str, Any] | None) -> Tool:
    function = FunctionTool(name=name, parameters=parameters, strict=True)
    return Tool(type="function", function=function)


TOOLS = [make_tool("weather", PARAMETERS), make_tool("now", None)]
NEXT = "weather", {"city": "Oslo", "days": 2, "note": "a", "tree": {"next": {}}}
SHORT = "weather", {"city": "Paris"}
NOW: tuple[str, dict[str, Any]] = ("now", {})

# What is to be allowed, and the calls in it.
ALLOWED: list[tuple[str, str, list[tuple[str, dict[str, Any]]]]] = [
    (
        "hermes",
        'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 2, '
        '"note": "a", "tree": {"next": {}}}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
        [NEXT, NOW],
    ),
    ("hermes", "A <tool_ and no call", []),
    (
        "xml",
        "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2"
        "\n</parameter>\n<parameter=note>\na\n</parameter>\n<parameter=tree>\n"
        '{"next": {}}\n</parameter>\n</function>\n</tool_call>',
        [NEXT],
    ),
    (
        "xml",
        "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n"
        "</tool_call><tool_call><function=now></function></tool_call>",
        [SHORT, NOW],
    ),
    (
        "mistral",
        '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Paris"}}, '
        '{"name": "now", "arguments": {}}]',
        [SHORT, NOW],
    ),
    ("mistral", 'So: [TOOL_CALLS]weather[ARGS]{"city": "Paris"}[TOOL_CALLS]now{}', [SHORT, NOW]),
    ("llama3", '{"name": "weather", "parameters": {"city": "Paris"}}', [SHORT]),
    (
        "llama3",
        '<|python_tag|>{"name": "weather", "parameters": {"city": "Paris"}}; '
        '{"name": "now", "parameters": {}}',
        [SHORT, NOW],
    ),
    ("llama3", "Use {} for this.", []),
    (
        "pythonic",
        '[weather(city="Oslo", days=2, note="a", tree={"next": {}}), now()]',
        [NEXT, NOW],
    ),
    ("pythonic", '[weather(city="Paris")]', [SHORT]),
    ("pythonic", "A list [of what]", []),
]
# The text up to the mark ^ is allowed, and not what follows.
FORBIDDEN = [
    ("hermes", '<tool_call>\n{"name": "^other"'),
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {"city": "^Rome"}}'),
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {^}}'),
    ("xml", "<tool_call>\n<function=^other>"),
    ("xml", "<tool_call>\n<function=weather>\n<parameter=city>\n^Rome"),
    ("xml", "<tool_call>\n<function=weather>\n<^/function>"),
    ("mistral", '[TOOL_CALLS][{"name": "^other"'),
    ("mistral", "[TOOL_CALLS]^other"),
    ("llama3", '{"name": "^other"'),
    ("llama3", "<|python_tag|>^print(1)"),
    ("pythonic", "[^other()"),
    ("pythonic", "[weather(^days=2)"),
]


class Vocabulary:
    """The demo model's, without marks of calls or with all of them as special tokens."""

    def __init__(self, folder: Path, *, has_marks: bool) -> None:
        folder.mkdir()
        backend = Backend.from_file(str(DEMO / "tokenizer.json"))
        if has_marks:
            backend.add_special_tokens(list(TOOL_MARKS))
        backend.save(str(folder / "tokenizer.json"))
        self.tokenizer = Tokenizer(folder)
        assert len(self.tokenizer.tool_marks) == (len(TOOL_MARKS) if has_marks else 0)
        text = (folder / "tokenizer.json").read_text()
        self._compiler = GrammarCompiler(text, self.tokenizer.vocab_size, [0])

    def held(self, **fields: Any) -> HeldTools:
        return HeldTools(**{"tools": TOOLS, "parallel": True, **fields}, marks=self.marks)

    @property
    def marks(self) -> dict[str, int]:
        return self.tokenizer.tool_marks

    def follow(self, name: str, held: HeldTools, text: str) -> tuple[str, bool]:
        """What of the text is allowed, and whether it may end there."""
        matcher = self._compiler.compile(make_grammar(name, held))
        tokens = self.tokenizer.encode(text)
        allowed = tokens[: matcher.count_allowed(tokens)]
        for token in allowed:
            matcher.advance(token)
        return self.tokenizer.decode(allowed), matcher.is_accepting


@pytest.fixture(scope="module", params=[False, True], ids=["text", "special"])
def vocabulary(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Vocabulary:
    return Vocabulary(tmp_path_factory.mktemp("tools") / "vocabulary", has_marks=request.param)


def read_calls(name: str, text: str, tools: Sequence[Tool]) -> list[tuple[str, dict[str, Any]]]:
    parameters = {tool.function.name: tool.function.parameters or {} for tool in tools}
    stream = ParsedToolStream(FORMATS[name], parameters)
    pieces = [stream.push(text), stream.finish()]
    return [(tool.name, json.loads(tool.arguments)) for piece in pieces for tool in piece.tools]


def test_every_format_has_a_grammar() -> None:
    assert GRAMMARS.keys() == FORMATS.keys()


@pytest.mark.parametrize(("name", "text", "calls"), ALLOWED)
def test_calls_by_the_schema_are_allowed(
    vocabulary: Vocabulary, name: str, text: str, calls: list[Any]
) -> None:
    assert vocabulary.follow(name, vocabulary.held(), text) == (text, True)
    assert read_calls(name, text, TOOLS) == calls


@pytest.mark.parametrize(("name", "text"), FORBIDDEN)
def test_other_calls_are_not(vocabulary: Vocabulary, name: str, text: str) -> None:
    begin, rest = text.split("^")
    found, may_end = vocabulary.follow(name, vocabulary.held(), begin + rest)
    # A token of the text may reach over the border.
    assert begin.startswith(found) and len(begin) - len(found) < 8 and not may_end


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_that_is_no_call_is_free(vocabulary: Vocabulary, name: str) -> None:
    for text in ("", "plain", " with\n\nlines; 1 < 2 & {a: [b]} <x>"):
        assert vocabulary.follow(name, vocabulary.held(), text) == (text, True)


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_has_its_form_beside_calls(vocabulary: Vocabulary, name: str) -> None:
    held = vocabulary.held(answer=ANSWER)
    for text in ('{"answer": true}', next(t for n, t, calls in ALLOWED if n == name and calls)):
        if not text.startswith(("Let", "So")):
            assert vocabulary.follow(name, held, text) == (text, True)
    assert vocabulary.follow(name, held, "plain")[0] == ""
    assert not vocabulary.follow(name, held, '{"answer": ')[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llama3", '{"name": "now", "parameters": {}}^; {"name": "now", "parameters": {}}'),
        ("pythonic", "[now()^, now()]"),
    ],
)
def test_one_call_at_a_time(vocabulary: Vocabulary, name: str, text: str) -> None:
    begin, rest = text.split("^")
    found, _ = vocabulary.follow(name, vocabulary.held(parallel=False), begin + rest)
    assert begin.startswith(found)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("xml", {"type": "object", "minProperties": 1}, "have minProperties"),
        ("xml", {"properties": {"a": {"type": "string", "pattern": "x"}}}, "a has pattern"),
        ("pythonic", {"properties": {"a-b": {}}}, "'a-b' is no name"),
        ("pythonic", {"properties": {}, "required": ["x"]}, "requires 'x'"),
        ("pythonic", {"properties": []}, "are no JSON schema"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    name: str, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        make_grammar(name, HeldTools([make_tool("f", parameters)], True, {}))


@pytest.mark.parametrize("name", FORMATS)
def test_many_large_tools_are_compiled(vocabulary: Vocabulary, name: str) -> None:
    properties = {
        f"argument_{i}": {"type": "string", "description": "what it is good for / or not " * 8}
        for i in range(12)
    }
    parameters = {"type": "object", "properties": properties, "required": ["argument_0"]}
    held = vocabulary.held(tools=[make_tool(f"tool_{i}", parameters) for i in range(20)])
    assert vocabulary.follow(name, held, "plain") == ("plain", True)
