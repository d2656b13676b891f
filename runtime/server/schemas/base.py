"""What every request's body has in common: strict fields, sentences for unions, bounded depth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

MAX_NESTING = 64


class Body(BaseModel):
    """Unknown fields and values of another JSON type are mistakes, not wishes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


def one_of(description: str) -> WrapValidator:
    """One sentence instead of one error for each member of a union."""

    def check(value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            return inner(value)
        except ValueError:
            raise PydanticCustomError(
                "union", "It is {allowed}", {"allowed": description}
            ) from None

    return WrapValidator(check)


def check_value(value: Any) -> None:
    """Refuse nesting that would exhaust a stack, and text that is half a surrogate pair.

    Level by level: this check must not exhaust the stack itself.
    """
    level = [value]
    for _ in range(MAX_NESTING + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, Mapping):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return
        level = below
    raise ValueError(f"it is nested deeper than {MAX_NESTING} levels")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it has half a surrogate pair, which is no character") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text, ValueError if it is none or nested too deeply."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    check_value(value)
    return value


class RequestBody(Body):
    """The whole of a body. What may be any JSON is checked with it."""

    @model_validator(mode="before")
    @classmethod
    def check_whole(cls, value: Any) -> Any:
        try:
            check_value(value)
        except ValueError as error:
            raise PydanticCustomError("value", "{reason}", {"reason": str(error)}) from None
        return value


JsonObject = dict[str, Any]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
