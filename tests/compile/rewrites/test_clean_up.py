"""Shape and dtype operators become as few as mean the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tvm
from tvm import relax
from tvm.relax import Var

from ingot.compile.graph import Rewritten
from ingot.compile.rewrites.clean_up import clean_up
from tests.compile.graphs import TOKENS, Emit, check_rewrite, check_unchanged, operators, trace

N = TOKENS
X = {"x": (1, N, 6)}
Build = Callable[[Emit, Var], relax.Expr]
op = relax.op

# name -> (before, after, how many bindings change)
CASES: dict[str, tuple[Build, Build, int]] = {
    "expand_dims": (
        lambda emit, x: emit(op.expand_dims(x, [0])),
        lambda emit, x: emit(op.reshape(x, [1, 1, N, 6])),
        1,
    ),
    "squeeze": (
        lambda emit, x: emit(op.squeeze(x, [0])),
        lambda emit, x: emit(op.reshape(x, [N, 6])),
        1,
    ),
    "reshapes of reshapes": (
        lambda emit, x: emit(op.reshape(emit(op.reshape(x, [N, 2, 3])), [N, 3, 2])),
        lambda emit, x: emit(op.reshape(x, [N, 3, 2])),
        1,
    ),
    "reshape there and back": (
        lambda emit, x: emit(op.exp(emit(op.reshape(emit(op.reshape(x, [N, 6])), [1, N, 6])))),
        lambda emit, x: emit(op.exp(x)),
        1,
    ),
    "permutation there and back": (
        lambda emit, x: emit(
            op.exp(emit(op.permute_dims(emit(op.permute_dims(x, [0, 2, 1])), [0, 2, 1])))
        ),
        lambda emit, x: emit(op.exp(x)),
        1,
    ),
    "permutations in a row": (
        lambda emit, x: emit(op.permute_dims(emit(op.permute_dims(x, [2, 0, 1])), [0, 2, 1])),
        lambda emit, x: emit(op.permute_dims(x, [2, 1, 0])),
        1,
    ),
    "permutation of axes of length one": (
        lambda emit, x: emit(op.permute_dims(x, [1, 0, 2])),
        lambda emit, x: emit(op.reshape(x, [N, 1, 6])),
        1,
    ),
    "whole slice": (
        lambda emit, x: emit(op.exp(emit(op.strided_slice(x, [2], [0], [2**63 - 1], [1])))),
        lambda emit, x: emit(op.exp(x)),
        1,
    ),
    "split by sections": (
        lambda emit, x: emit(relax.TupleGetItem(emit(op.split(x, 2, axis=-1)), 1)),
        lambda emit, x: emit(op.strided_slice(x, [2], [3], [6], [1])),
        1,
    ),
    "split at indices": (
        lambda emit, x: emit(relax.TupleGetItem(emit(op.split(x, [1, 5], axis=2)), 1)),
        lambda emit, x: emit(op.strided_slice(x, [2], [1], [5], [1])),
        1,
    ),
    "concat of one": (
        lambda emit, x: emit(op.exp(emit(op.concat([x], axis=1)))),
        lambda emit, x: emit(op.exp(x)),
        1,
    ),
    "cast to its own dtype": (
        lambda emit, x: emit(op.exp(emit(op.astype(x, "float32")))),
        lambda emit, x: emit(op.exp(x)),
        1,
    ),
    "neutral elements": (
        lambda emit, x: emit(
            op.exp(emit(op.add(relax.const(0.0), emit(op.multiply(x, relax.const(1.0))))))
        ),
        lambda emit, x: emit(op.exp(x)),
        2,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_simplified(case: str) -> None:
    before, after, num_matched = CASES[case]
    module = trace(before, X)
    check_rewrite(module, clean_up(module), trace(after, X), num_matched)


UNCHANGED: dict[str, Build] = {
    "permutation that moves": lambda emit, x: emit(op.permute_dims(x, [0, 2, 1])),
    "part of the columns": lambda emit, x: emit(op.strided_slice(x, [2], [1], [6], [1])),
    "rounding to float16": lambda emit, x: emit(
        op.astype(emit(op.astype(x, "float16")), "float32")
    ),
    "one minus": lambda emit, x: emit(op.subtract(relax.const(0.0), x)),
    "one over": lambda emit, x: emit(op.divide(relax.const(1.0), x)),
    "one that widens": lambda emit, x: emit(
        op.multiply(x, relax.const([[[1.0]], [[1.0]]], "float32"))
    ),
}


@pytest.mark.parametrize("case", UNCHANGED)
def test_does_not_apply(case: str) -> None:
    module = trace(UNCHANGED[case], X)
    check_unchanged(module, clean_up(module))


def test_cast_to_the_wider_and_back() -> None:
    """The importer widens int32 ids, and lookups narrow them again, with a reshape between."""

    def build(emit: Emit, x: Var) -> Var:
        narrow = emit(op.astype(x, "int32"))
        wide = emit(op.reshape(emit(op.astype(narrow, "int64")), [1, N]))
        return emit(op.astype(wide, "int32"))

    cleaned = clean_up(trace(build, {"x": (N,)}))
    assert operators(cleaned.module) == ["relax.astype", "relax.reshape"]


def test_weights_come_first_and_once() -> None:
    def before(emit: Emit, x: Var, w: Var) -> Var:
        activated = emit(op.exp(x))
        first = emit(op.multiply(activated, emit(op.add(w, relax.const(1.0)))))
        return emit(op.multiply(first, emit(op.add(w, relax.const(1.0)))))

    def expected(emit: Emit, x: Var, w: Var) -> Var:
        weight = emit(op.add(w, relax.const(1.0)))
        return emit(op.multiply(emit(op.multiply(emit(op.exp(x)), weight)), weight))

    module, weights = trace(before, X, {"w": (6,)}), {"w": (6,)}
    check_rewrite(module, clean_up(module), trace(expected, X, weights), num_matched=0)


def test_constants_are_folded() -> None:
    def build(emit: Emit, x: Var) -> Var:
        return emit(op.multiply(x, emit(op.exp(relax.const(2.0)))))

    assert operators(clean_up(trace(build, X)).module) == ["relax.multiply"]


def test_twice_changes_nothing_more() -> None:
    before, _, _ = CASES["neutral elements"]
    once: Rewritten = clean_up(trace(before, X))
    check_unchanged(once.module, clean_up(once.module))


def test_function_keeps_its_attributes() -> None:
    module = trace(lambda emit, x: emit(op.exp(x)), X)
    cleaned: tvm.IRModule = clean_up(module).module
    assert int(cleaned["trace"].attrs["num_input"]) == 1
