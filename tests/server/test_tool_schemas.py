"""A tool's schema keeps its meaning inside the schema of a list of calls."""

from ingot.runtime.server.schemas.chat import FunctionTool, Tool
from ingot.runtime.server.tool_schemas import parameters_schema, required_schema, without_notes

TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/Node"}, "self": {"$ref": "#"}},
    "$defs": {"Node": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Node"}]}},
}


def make(name: str, parameters: dict[str, object] | None) -> Tool:
    return Tool(type="function", function=FunctionTool(name=name, parameters=parameters))


def test_references_follow_their_schema() -> None:
    schema = required_schema([make("a", TREE), make("b", None)], parallel=True)
    place = schema["$defs"]["tool0"]
    assert place["properties"]["root"] == {"$ref": "#/$defs/tool0/$defs/Node"}
    assert place["properties"]["self"] == {"$ref": "#/$defs/tool0"}
    assert place["$defs"]["Node"]["anyOf"][1] == {"$ref": "#/$defs/tool0/$defs/Node"}
    assert [c["properties"]["name"]["const"] for c in schema["items"]["anyOf"]] == ["a", "b"]
    assert schema["minItems"] == 1 < schema["maxItems"]
    assert required_schema([make("a", TREE)], parallel=False)["maxItems"] == 1


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    assert parameters_schema(make("a", None))["additionalProperties"] is False


def test_notes_are_dropped_and_properties_of_such_names_kept() -> None:
    schema = {
        "description": "a note",
        "properties": {"title": {"type": "string", "title": "Title"}, "description": True},
        "anyOf": [{"title": "A"}],
        "enum": [{"title": "a value"}],
    }
    assert without_notes(schema) == {
        "properties": {"title": {"type": "string"}, "description": True},
        "anyOf": [{}],
        "enum": [{"title": "a value"}],
    }
