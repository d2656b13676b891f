"""Records take what their annotations say and nothing else, and say where something is wrong."""

from __future__ import annotations

import json
import pickle
from typing import Annotated, Any, Literal

import pytest

from ingot.runtime.artifact.record import FieldError, Record, at_least, matches


class Inner(Record):
    count: Annotated[int, at_least(1)]
    name: Annotated[str, matches("[a-z]+")] = "x"


class Outer(Record):
    kind: Literal["a", "b"]
    inners: tuple[Inner, ...] = ()
    amounts: dict[str, Annotated[int, at_least(0)]] = {}
    sizes: dict[str, Annotated[int, at_least(1)] | tuple[Annotated[int, at_least(1)], ...]] = {}
    maybe: str | None = None
    anything: Any = None
    flag: bool = False

    @property
    def total(self) -> int:
        return sum(inner.count for inner in self.inners)


WHOLE = {
    "kind": "a",
    "inners": [{"count": 2, "name": "two"}, {"count": 1, "name": "x"}],
    "amounts": {"n": 0},
    "sizes": {"one": 3, "two": [1, 2]},
    "maybe": None,
    "anything": [1, {"x": None}],
    "flag": True,
}


def test_there_and_back() -> None:
    record = Outer.model_validate(json.loads(json.dumps(WHOLE)))
    assert record.total == 3 and record.inners[1] == Inner(count=1)
    assert record.model_dump(mode="json") == WHOLE
    assert Outer(**WHOLE) == record == Outer.model_validate(record)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(record)) == record


def test_defaults() -> None:
    record = Outer(kind="b")
    assert (record.inners, record.amounts, record.maybe, record.flag) == ((), {}, None, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "c"}, "kind: should be 'a' or 'b', not 'c'"),
        ({"strange": 1}, "strange: this version of Ingot knows"),
        ({"sizes": {"one": 0}}, "sizes.one: should be a list, not int 0"),
        ({"sizes": {"one": [0]}}, "sizes.one.0: "),
        ({"inners": [{"count": 1}, {}]}, "inners.1.count: the field is missing"),
        ({"inners": [{"count": 0}]}, "inners.0.count: should be at least 1, not 0"),
        ({"inners": [{"count": True}]}, "inners.0.count: should be of type int, not bool True"),
        ({"inners": [{"count": 1.0}]}, "inners.0.count: should be of type int, not float 1.0"),
        ({"inners": [{"count": 1, "name": "x\n"}]}, "inners.0.name: should match"),
        ({"inners": {"count": 1}}, "inners: should be a list"),
        ({"inners": [3]}, "inners.0: should be an object, not int 3"),
        ({"amounts": {"n": "1"}}, "amounts.n: should be of type int"),
        ({"amounts": {1: 1}}, "amounts: should be an object"),
        ({"maybe": 3}, "maybe: should be of type str"),
        ({"flag": 1}, "flag: should be of type bool"),
    ],
)
def test_what_is_wrong_and_where(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as error:
        Outer.model_validate({**WHOLE, **changes})
    assert str(error.value).startswith(message)


def test_a_text_of_another_class_becomes_a_plain_one() -> None:
    class Text(str):
        pass

    assert type(Inner(count=1, name=Text("x")).name) is str


def test_no_record_changes() -> None:
    record = Inner(count=1)
    with pytest.raises(AttributeError, match="Inner.count can't be changed"):
        record.count = 2  # type: ignore[misc]
    assert record.model_copy(update={"count": 2}) == Inner(count=2) != record
    with pytest.raises(FieldError, match="count: should be at least 1"):
        record.model_copy(update={"count": 0})
    assert repr(record) == "Inner(count=1, name='x')"
