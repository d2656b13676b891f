"""Repetitions are counted as they nest, and nothing hides them."""

import pytest

from ingot.errors import RequestError
from ingot.runtime.constraints import Grammar, JsonSchema, Regex
from ingot.runtime.constraints.repetition import written_out_length


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        ("", 0),
        ("abc", 3),
        ("a{10}", 10),
        ("ab{2,5}", 6),
        ("a{3,}b", 4),
        ("(ab){10}c", 21),
        ("((a{10}){10}){10}", 1000),
        ("(?:x|[a-z]{4}){3}", 18),
        (r"\d{3}-\p{L}{2}\{", 7),
        (r"[\]{9}]{4}", 4),
        ("[a[b]]{7}", 7),
        ("a*b+c?", 3),
        ("a{,5}", 5),
        ("a){5}", 5),
        ("(a{999999999}){999999999}" * 9, 10**12),
    ],
)
def test_lengths(pattern: str, length: int) -> None:
    assert written_out_length(pattern) == length


@pytest.mark.parametrize(
    "pattern", ["a{20001}", "(a{1000}){1000}", "(a{1000}[)]){1000}", "a{99999999999999}"]
)
def test_long_ones_are_refused_wherever_they_stand(pattern: str) -> None:
    with pytest.raises(RequestError, match="with its repetitions written out"):
        Regex(pattern)
    for schema in (
        {"type": "string", "pattern": pattern},
        {"properties": {"a": {"items": [{"pattern": pattern}]}}},
        {"patternProperties": {pattern: {}}},
    ):
        with pytest.raises(RequestError, match="with its repetitions written out"):
            JsonSchema(schema)
    for lark in (f"start: /{pattern}/", f'start: "/" A\nA: "[" /{pattern}/'):
        with pytest.raises(RequestError, match="with its repetitions written out"):
            Grammar(lark)


def test_a_property_may_be_named_pattern() -> None:
    JsonSchema({"properties": {"pattern": {"type": "string"}}})
    Regex("[a-z]{1,200}")
