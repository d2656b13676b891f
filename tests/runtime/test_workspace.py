"""One arena serves steps of all dimensions: what is new is laid out, what is larger grows it."""

from __future__ import annotations

from typing import Any

import pytest

from ingot.errors import IngotError
from ingot.runtime.workspace import MAX_LAYOUTS, Workspace

AMOUNTS = {"step": {"n": 64, "m": 128}, "embed": {"1": 64, "n": 64}}


class FakeMachine:
    """Counts arenas and layouts; an arena is its size."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def call(self, name: str, shape: Any, *arena: int) -> Any:
        extents = tuple(shape)
        self.calls.append((name, extents, *arena))
        return extents[0] if name == "allocate" else (name, extents)


@pytest.fixture
def vm() -> FakeMachine:
    return FakeMachine()


def create(vm: FakeMachine, **bounds: int) -> Workspace:
    everything = {"n": 0, "b": 0, "p": 0, "m": 0, **bounds}
    return Workspace(vm, AMOUNTS, everything)  # type: ignore[arg-type]


def sizes(n: int, m: int, p: int = 1) -> dict[str, int]:
    return {"n": n, "m": m, "b": 1, "p": p}


def test_steps_within_the_bounds_take_the_memory_that_was_planned(vm: FakeMachine) -> None:
    workspace = create(vm, n=8, m=2)
    planned = 8 * 64 + 2 * 128
    assert vm.calls == [("allocate", (planned,))] and workspace.num_bytes == planned
    workspace.views("step", sizes(8, 2))
    workspace.views("embed", sizes(3, 1))
    assert vm.calls[1:] == [("step_views", (2, 8), planned), ("embed_views", (3,), planned)]


def test_steps_that_are_alike_call_nothing(vm: FakeMachine) -> None:
    workspace = create(vm, n=8, m=2)
    first = workspace.views("step", sizes(2, 2))
    before = len(vm.calls)
    for pages in range(2, 9):  # what the layout doesn't depend on
        [views] = workspace.views("step", sizes(2, 2, pages))
        assert views is first[0]
    assert len(vm.calls) == before


def test_a_larger_step_makes_it_grow_once(vm: FakeMachine) -> None:
    workspace = create(vm, n=1, m=1)
    for _ in range(2):
        workspace.views("step", sizes(4, 1))
        workspace.views("step", sizes(1, 1))
    allocated = [call for call in vm.calls if call[0] == "allocate"]
    assert allocated == [("allocate", (192,)), ("allocate", (384,))]
    assert [call[2] for call in vm.calls if call[0] == "step_views"] == [384, 384]


def test_layouts_are_not_kept_without_end(vm: FakeMachine) -> None:
    workspace = create(vm, n=MAX_LAYOUTS + 1, m=1)
    for n in range(1, MAX_LAYOUTS + 2):
        workspace.views("step", sizes(n, 1))
    before = len(vm.calls)
    workspace.views("step", sizes(MAX_LAYOUTS + 1, 1))
    assert len(vm.calls) == before, "the newest is kept"
    workspace.views("step", sizes(1, 1))
    assert len(vm.calls) == before + 1, "the oldest are not"


def test_a_function_that_allocates_by_itself(vm: FakeMachine) -> None:
    workspace = Workspace(vm, {}, sizes(8, 2))  # type: ignore[arg-type]
    assert workspace.views("step", sizes(1, 1)) == () and vm.calls == []


def test_what_is_not_planned_comes_with_the_step_that_needs_it(vm: FakeMachine) -> None:
    workspace = Workspace(vm, AMOUNTS, sizes(8, 2), ["embed"])  # type: ignore[arg-type]
    assert workspace.num_bytes == 64 + 8 * 64
    workspace.views("step", sizes(8, 2))
    assert workspace.num_bytes == 8 * 64 + 2 * 128


def test_memory_that_is_not_there(vm: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    workspace = create(vm, n=1, m=1)
    with monkeypatch.context() as patch, pytest.raises(IngotError, match="320 bytes.: out of"):
        patch.setattr(vm, "call", refuse)
        workspace.views("step", sizes(3, 1))
    workspace.views("step", sizes(1, 1))
    assert workspace.num_bytes == 192
