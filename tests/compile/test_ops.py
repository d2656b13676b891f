"""The types that `ingot.*` operators infer, and attributes as they were given."""

from __future__ import annotations

import pytest
from tvm import relax, tirx

from ingot.compile.ops import OPERATORS, SQUARES_RUN, attributes, call_op

N, M = tirx.Var("n", "int64"), tirx.Var("m", "int64")


def tensor(*shape: object, dtype: str = "float32") -> relax.Var:
    return relax.Var("x", relax.TensorType(list(shape), dtype))


CASES: dict[str, tuple[list[relax.Var], list[object]]] = {
    "linear": ([tensor(1, N, 6), tensor(10, 6), tensor(10)], [1, N, 10]),
    "embedding": ([tensor(1, N, dtype="int32"), tensor(50, 6)], [1, N, 6]),
    "gather_rows": ([tensor(1, N, 6), tensor(M, dtype="int32")], [1, M, 6]),
    "paged_attention": (
        [tensor(1, N, 4, 8), tensor(1, N, 2, 8), tensor(1, N, 2, 12)],
        [1, N, 4, 12],
    ),
    "layer_output": ([tensor(1, N, 6)], [1, N, 6]),
    "norm": ([tensor(1, N, 6), tensor(6)], [1, N, 6]),
    "rope": ([tensor(1, N, 4, 8), tensor(1, N, 8), tensor(1, N, 8)], [1, N, 4, 8]),
    "activation": ([tensor(1, N, 6)], [1, N, 6]),
    "gated_linear": ([tensor(1, N, 6), tensor(8, 6)], [1, N, 4]),
    "gated_activation": ([tensor(1, N, 6), tensor(1, N, 6)], [1, N, 6]),
    "norm_by_squares": ([tensor(1, N, 6), tensor(1, N, 1), tensor(6)], [1, N, 6]),
    "norm_linear": ([tensor(1, N, 6), tensor(1, N, 1), tensor(6), tensor(10, 6)], [1, N, 10]),
}
TUPLES = {"residual_norm", "residual_linear"}


def emitted(call: relax.Call) -> relax.Var:
    """The call's variable, with the type that was inferred."""
    builder = relax.BlockBuilder()
    parameters: list[relax.Var] = list(call.args)
    found: list[relax.Var] = []
    with builder.function("f", parameters):
        with builder.dataflow():
            found.append(builder.emit(call))
            output = builder.emit_output(found[0])
        builder.emit_func_output(output)
    return found[0]


def check_type(type_: relax.TensorType, shape: list[object]) -> None:
    expected = relax.ShapeExpr(shape)
    got = list(type_.shape.values)
    assert [str(extent) for extent in got] == [str(extent) for extent in expected.values]
    assert str(type_.dtype.dtype) == "float32"


@pytest.mark.parametrize("name", CASES)
def test_type(name: str) -> None:
    operands, shape = CASES[name]
    check_type(emitted(call_op(name, operands)).ty, shape)


def test_halves_of_one_matrix() -> None:
    check_type(emitted(call_op("gated_activation", [tensor(1, N, 12)])).ty, [1, N, 6])


def test_norm_linear_activates_halves() -> None:
    operands = [tensor(1, N, 6), tensor(1, N, 1), tensor(6), tensor(10, 6)]
    check_type(emitted(call_op("norm_linear", operands, kind="silu")).ty, [1, N, 5])


def test_residual_linear_gives_sum_and_squares_of_its_runs() -> None:
    features = SQUARES_RUN + 1
    operands = [tensor(1, N, 6), tensor(features, 6), tensor(1, N, features)]
    total, squares = emitted(call_op("residual_linear", operands)).ty.fields
    check_type(total, [1, N, features])
    check_type(squares, [1, N, 2])


def test_residual_norm_gives_sum_and_norm() -> None:
    fields = emitted(call_op("residual_norm", [tensor(1, N, 6), tensor(1, N, 6)])).ty.fields
    assert len(fields) == 2
    for field in fields:
        check_type(field, [1, N, 6])


def test_every_operator_has_a_case() -> None:
    assert set(OPERATORS) == CASES.keys() | TUPLES


def test_attributes() -> None:
    given = {"kind": "rms", "eps": 1e-6, "layer": 3, "causal": True, "window": 0}
    call = call_op("norm", [tensor(1, N, 6)], **given)
    assert attributes(call) == given
    assert [type(value) for value in attributes(call).values()] == [
        type(given[key]) for key in attributes(call)
    ]


def test_no_attributes() -> None:
    assert attributes(call_op("linear", [tensor(1, N, 6), tensor(10, 6)])) == {}
