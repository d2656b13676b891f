"""What a wish about the form may say, before anything is compiled."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from ingot.errors import RequestError
from ingot.runtime.constraints import Choice, Constraint, Grammar, JsonObject, JsonSchema, Regex
from ingot.runtime.constraints.kinds import MAX_MULTIPLE, MAX_NESTING, MAX_TEXT_BYTES

KINDS = [
    JsonSchema({"type": "integer"}),
    JsonObject(),
    Regex("a+"),
    Choice(["yes", "no"]),
    Grammar('start: "a"'),
]


def nested(depth: int) -> Any:
    schema: Any = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize("constraint", KINDS, ids=lambda c: type(c).__name__)
def test_kinds_travel_and_are_keys(constraint: Constraint) -> None:
    assert pickle.loads(pickle.dumps(constraint)) == constraint
    assert {constraint: 1}[constraint] == 1


def test_a_schema_is_the_same_as_its_text() -> None:
    assert JsonSchema({"type": "integer"}) == JsonSchema('{"type":\n"integer"}')


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: JsonSchema("{"), "not JSON"),
        (lambda: JsonSchema("[1]"), "of type list; it is an object"),
        (lambda: JsonSchema({"enum": [object()]}), "can't be written as JSON"),
        (lambda: JsonSchema('{"minimum": 1e999}'), "can't be written as JSON"),
        (lambda: JsonSchema(nested(MAX_NESTING + 1)), "nested deeper"),
        (lambda: JsonSchema("[" * 100_000), "not JSON"),
        (lambda: JsonSchema({"title": "x" * MAX_TEXT_BYTES}), "at most"),
        (lambda: JsonSchema({"multipleOf": MAX_MULTIPLE + 1}), "multipleOf"),
        (lambda: JsonSchema({"allOf": [{"multipleOf": n} for n in (101, 103, 107)]}), "multipleOf"),
        (lambda: Grammar('start: %json {"multipleOf": 1000003}'), "multipleOf"),
        (lambda: Grammar('start: %json {"multiple\\u004ff": 1000003}'), "multipleOf"),
        (lambda: Grammar("start: %json // {}"), "no JSON follows"),
        (lambda: Regex(""), "not empty"),
        (lambda: Regex("\ud800"), "not valid Unicode"),
        (lambda: Regex("a" * (MAX_TEXT_BYTES + 1)), "at most"),
        (lambda: Regex("((a{1,1000}){1,1000}){1,1000}"), "repetitions written out"),
        (lambda: Grammar("start: /(a{1000}){1000}/"), "repetitions written out"),
        (lambda: Choice([]), "has 0 options"),
        (lambda: Choice("yes"), "a list of texts"),
        (lambda: Choice(["yes", ""]), "not empty"),
        (lambda: Choice(["x" * 1000 + str(i) for i in range(200)]), "at most"),
        (lambda: Grammar(7), "not empty"),  # type: ignore[arg-type]
    ],
)
def test_refused(make: Callable[[], Constraint], words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        make()
    assert len(str(caught.value)) < 300


def test_deep_and_precise_enough_for_people() -> None:
    JsonSchema(nested(MAX_NESTING - 1))
    JsonSchema({"items": {"multipleOf": 0.01}, "contains": {"multipleOf": 12}})
