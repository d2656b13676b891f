"""The stand-in for `inspect.stack` sees the same frames, parses TVMScript, and goes away again."""

import inspect

import pytest

from ingot.compile.fast_inspect import fast_inspect, walk_stack


def test_walk_stack_lists_the_same_frames() -> None:
    fast, standard = walk_stack(), inspect.stack()
    assert [(f.filename, f.function) for f in fast] == [(f.filename, f.function) for f in standard]
    assert fast[0].code_context == standard[0].code_context


def test_restores_after_an_error() -> None:
    standard = inspect.stack
    with pytest.raises(RuntimeError, match="inside"), fast_inspect():
        assert inspect.stack is walk_stack
        raise RuntimeError("inside")
    assert inspect.stack is standard


def test_parses_functions_and_modules() -> None:
    from tvm.script import ir as I  # noqa: E741 -- TVMScript's own spelling
    from tvm.script import tirx as T

    with fast_inspect():

        @T.prim_func(s_tir=True)
        def alone(a: T.Buffer((4,), "float32")) -> None:  # type: ignore[valid-type]
            for i in range(4):
                a[i] = a[i] + T.float32(1)

        @I.ir_module(s_tir=True)
        class Module:
            @T.prim_func(s_tir=True)
            def main(a: T.Buffer((4,), "float32")) -> None:  # type: ignore[valid-type]
                for i in range(4):
                    a[i] = a[i] + T.float32(1)

    assert len(alone.params) == 1
    assert len(Module.functions) == 1
