"""Turns a wish about an output's form into checked, hashable data; nothing is compiled here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingot.errors import RequestError
from ingot.runtime.constraints.repetition import check_grammar_repetitions, check_repetitions

# Far above what people write, far below what makes the grammar compiler slow.
MAX_TEXT_BYTES = 128 * 1024
MAX_NESTING = 64
MAX_CHOICES = 4096
# A remainder is a state of the automaton, and no other limit counts them: 0.2 s at this bound.
MAX_MULTIPLE = 10_000


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that a schema describes. `schema` is a mapping or its JSON text; it is kept as text."""

    schema: Mapping[str, Any] | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", _schema_text(self.schema))

    @property
    def text(self) -> str:
        assert isinstance(self.schema, str)
        return self.schema


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Any JSON object."""


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that a regular expression matches from its first to its last character. The syntax is
    that of Rust's `regex` library: no look-around, no back references."""

    pattern: str

    def __post_init__(self) -> None:
        _check_text("the pattern", self.pattern)
        check_repetitions("the pattern", self.pattern)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts."""

    options: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.options, str) or not isinstance(self.options, Sequence):
            raise RequestError(f"the choice is {self.options!r}; it is a list of texts")
        options = tuple(self.options)
        if not 1 <= len(options) <= MAX_CHOICES:
            raise RequestError(f"the choice has {len(options)} options; it has 1 to {MAX_CHOICES}")
        for option in options:
            _check_text("an option of the choice", option)
        _check_size("the choice", "".join(options))
        object.__setattr__(self, "options", options)


@dataclass(frozen=True, slots=True)
class Grammar:
    """Text of a context-free grammar, in llguidance's variant of Lark; it starts at `start`."""

    lark: str

    def __post_init__(self) -> None:
        _check_text("the grammar", self.lark)
        check_grammar_repetitions("the grammar", self.lark)
        for part in self.lark.split("%json")[1:]:
            try:
                schema, _ = json.JSONDecoder().raw_decode(part.lstrip())
            except (ValueError, RecursionError):
                raise RequestError("the grammar has a %json that no JSON follows") from None
            _check_schema("the grammar's JSON schema", schema)


Constraint = JsonSchema | JsonObject | Regex | Choice | Grammar


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str) or not text:
        raise RequestError(f"{what} is {text!r}; it is a text that is not empty")
    _check_size(what, text)


def _check_size(what: str, text: str) -> None:
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise RequestError(f"{what} is not valid Unicode ({error.reason})") from None
    if num_bytes > MAX_TEXT_BYTES:
        raise RequestError(f"{what} has {num_bytes} bytes; at most {MAX_TEXT_BYTES} are compiled")


def _schema_text(schema: object) -> str:
    """The schema as JSON text, checked for its size and depth."""
    if isinstance(schema, str):
        _check_size("the JSON schema", schema)
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the JSON schema is not JSON ({error})") from None
    if not isinstance(schema, Mapping):
        raise RequestError(f"the JSON schema is of type {type(schema).__name__}; it is an object")
    _check_schema("the JSON schema", schema)
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RequestError(f"the JSON schema can't be written as JSON ({error})") from None
    _check_size("the JSON schema", text)
    return text


def _patterns(schema: object) -> Iterator[str]:
    """The regular expressions of one level of a schema."""
    if not isinstance(schema, Mapping):
        return
    by_property = schema.get("patternProperties")
    names = by_property if isinstance(by_property, Mapping) else ()
    yield from (text for text in (schema.get("pattern"), *names) if isinstance(text, str))


def _check_schema(what: str, schema: object) -> None:
    from fractions import Fraction  # it loads `decimal`, which no start should wait for

    multiples = []
    for depth, item in _walk(schema):
        if depth > MAX_NESTING:
            raise RequestError(f"{what} is nested deeper than {MAX_NESTING} levels")
        for pattern in _patterns(item):
            check_repetitions(f"{what}'s pattern", pattern)
        multiple = item.get("multipleOf") if isinstance(item, Mapping) else None
        if isinstance(multiple, int | float) and math.isfinite(multiple) and multiple > 0:
            multiples.append(Fraction(str(multiple)))
    numerator = math.lcm(*(multiple.numerator for multiple in multiples))
    denominator = math.lcm(*(multiple.denominator for multiple in multiples))
    if numerator > 1 and numerator * denominator > MAX_MULTIPLE:
        raise RequestError(
            f"{what} has a multipleOf, or several together, above {MAX_MULTIPLE} times the "
            "smallest digit"
        )


def _walk(schema: object) -> Iterator[tuple[int, object]]:
    """Every value with its depth, level by level: a hostile schema must not exhaust the stack."""
    level = [schema]
    for depth in range(MAX_NESTING + 2):
        yield from ((depth, item) for item in level)
        below: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
        level = below
