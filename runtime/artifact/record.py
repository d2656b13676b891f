"""Checked records from JSON and back: classes whose annotations say what their fields may hold.

A manifest is read at each start, and pydantic takes longer to import than all else of the runtime
but NumPy. The manifest needs little of it: numbers, texts, choices, tuples, dictionaries, records,
and constraints in `Annotated`. The methods are named as pydantic's are.

msgspec 0.22 was tried in its place. It imports in 4 ms, which is what it saves by reading a
manifest faster. But it checks no record that is made by its fields, as the compiler makes them, and
its messages name neither the key of a dictionary nor the choices that a field has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

Check = Callable[[Any], Any]
"""Gives the value as a field holds it, or raises a `FieldError`."""


class FieldError(ValueError):
    """What is wrong with a value, and where: `weights.3.dtype`."""

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(f"{'.'.join(path)}: {message}" if path else message)
        self.message = message
        self.path = path

    def inside(self, name: str) -> FieldError:
        return FieldError(self.message, (name, *self.path))


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """Fields by their names, checked when it is made, and never changed."""

    _checks: ClassVar[dict[str, Check]] = {}

    def __init_subclass__(cls) -> None:
        hints = get_type_hints(cls, include_extras=True)
        cls._checks = {name: _check(hint) for name, hint in hints.items() if name != "_checks"}

    def __init__(self, **values: Any) -> None:
        unknown = [name for name in values if name not in self._checks]
        if unknown:
            raise FieldError("this version of Ingot knows no such field", (unknown[0],))
        checked = self.__dict__
        for name, check in self._checks.items():
            if name in values:
                checked[name] = _inside(name, check, values[name])
            elif hasattr(type(self), name):
                checked[name] = getattr(type(self), name)
            else:
                raise FieldError("the field is missing", (name,))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"

    @classmethod
    def model_validate(cls, value: Any) -> Self:
        """A record of what JSON gives, or the record itself."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise FieldError(f"should be an object, not {_kind(value)}")
        return cls(**value)

    def model_dump(self, mode: Literal["json"] = "json") -> dict[str, Any]:
        """As `json.dumps` takes it."""
        return {name: _dump(value) for name, value in self.__dict__.items()}

    def model_copy(self, update: Mapping[str, Any]) -> Self:
        return type(self)(**{**self.__dict__, **update})


def _check(hint: Any) -> Check:
    """What checks a value of an annotated type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin is Annotated:
        return _in_turn(_check(args[0]), *args[1:])
    if origin is Literal:
        return _choice(args)
    if origin in (UnionType, Union):
        return _any_of([_check(arg) for arg in args if arg is not NoneType], NoneType in args)
    if origin is tuple:
        return _tuple_of(_check(args[0]))
    if origin is dict:
        return _dict_of(_check(args[1]))
    if issubclass(hint, Record):
        validate: Check = hint.model_validate
        return validate
    return _instance_of(hint)


def _in_turn(*checks: Check) -> Check:
    def check(value: Any) -> Any:
        for one in checks:
            value = one(value)
        return value

    return check


def _any_of(checks: list[Check], takes_none: bool) -> Check:
    """What the first of the checks makes of it that takes it; else what the last one says."""

    def check(value: Any) -> Any:
        if value is None and takes_none:
            return None
        for one in checks[:-1]:
            try:
                return one(value)
            except FieldError:
                continue
        return checks[-1](value)

    return check


def _choice(options: tuple[Any, ...]) -> Check:
    def check(value: Any) -> Any:
        if not any(value == option and type(value) is type(option) for option in options):
            raise FieldError(f"should be {' or '.join(map(repr, options))}, not {value!r}")
        return value

    return check


def _tuple_of(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise FieldError(f"should be a list, not {_kind(value)}")
        return tuple(_inside(str(i), inner, item) for i, item in enumerate(value))

    return check


def _dict_of(inner: Check) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise FieldError(f"should be an object, not {_kind(value)}")
        return {key: _inside(key, inner, item) for key, item in value.items()}

    return check


def _instance_of(wanted: type) -> Check:
    def check(value: Any) -> Any:
        # True is no number here, and compilers have kinds of str of their own.
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise FieldError(f"should be of type {wanted.__name__}, not {_kind(value)}")
        return wanted(value)

    return check


def at_least(least: int) -> Check:
    def check(value: Any) -> Any:
        if value < least:
            raise FieldError(f"should be at least {least}, not {value}")
        return value

    return check


def matches(pattern: str) -> Check:
    found = re.compile(pattern).fullmatch

    def check(value: Any) -> Any:
        if not found(value):
            raise FieldError(f"should match {pattern}, not be {value!r}")
        return value

    return check


def _inside(name: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except FieldError as error:
        raise error.inside(name) from None


def _dump(value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump()
    if isinstance(value, list | tuple):
        return [_dump(item) for item in value]
    if isinstance(value, dict):
        return {key: _dump(item) for key, item in value.items()}
    return value


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
