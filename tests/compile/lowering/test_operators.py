"""Each operator becomes the call of its kernel, with the operands where they lie.

What the kernels compute is held against their references in `tests/compile/kernels/`, and what a
whole lowered model computes in `tests/compile/test_pipeline.py`.
"""

from __future__ import annotations

import pytest
from tvm import relax
from tvm.relax import Var

from ingot.compile.column_slice import slice_columns
from ingot.compile.ops import call_op
from tests.compile.graphs import Emit
from tests.compile.lowering.lowered import CPU, GPU, lower

TABLE = {"table": (40, 32)}


def embed(emit: Emit, ids: Var, table: Var) -> Var:
    return emit(call_op("embedding", [ids, table]))


def test_a_linear_takes_rows_of_tokens_its_packed_weight_and_its_bias() -> None:
    def build(emit: Emit, ids: Var, _p: Var, _r: Var, table: Var, w: Var, b: Var) -> Var:
        return emit(call_op("linear", [embed(emit, ids, table), w, b]))

    lowered = lower(build, {**TABLE, "w": (24, 32), "b": (24,)})
    assert lowered.ops == ["embedding", "matmul"]
    linear = lowered.calls[1]
    assert linear.shapes[0] == ("n", 32)
    assert linear.stored == ("model.w", "model.b")


@pytest.mark.parametrize(("role", "codes"), [("linear", "uint8"), ("head", "int8")])
def test_a_linear_is_stored_in_the_format_of_its_role(role: str, codes: str) -> None:
    def build(emit: Emit, ids: Var, _p: Var, _r: Var, table: Var, w: Var) -> Var:
        return emit(call_op("linear", [embed(emit, ids, table), w], role=role))

    lowered = lower(build, {**TABLE, "w": (64, 32)}, scheme="w4")
    assert lowered.stored["model.w"] == codes


def test_a_tied_table_is_stored_once_as_the_head() -> None:
    def build(emit: Emit, ids: Var, _p: Var, rows: Var, table: Var) -> Var:
        kept = emit(call_op("gather_rows", [embed(emit, ids, table), rows]))
        return emit(call_op("linear", [kept, table], role="head"))

    lowered = lower(build, TABLE, scheme="w8")
    assert lowered.ops == ["embedding", "gather_rows", "matmul"]
    assert lowered.calls[0].stored == lowered.calls[2].stored
    assert len(list(lowered.weights)) == 1
    assert lowered.calls[2].shapes[0] == ("m", 32)


@pytest.mark.parametrize(
    ("width", "target", "scheme", "ops"),
    [
        (64, CPU, "f32", ["embedding", "matmul"]),
        (20, CPU, "f32", ["embedding", "matmul", "activation"]),  # no whole runs of gates
        (64, GPU, "f16", ["embedding", "matmul"]),
        (64, GPU, "f32", ["embedding", "matmul", "activation"]),  # float32 is not for tensor cores
    ],
)
def test_a_gate_is_part_of_the_matmul_where_that_can_be(
    width: int, target: str, scheme: str, ops: list[str]
) -> None:
    def build(emit: Emit, ids: Var, _p: Var, _r: Var, table: Var, w: Var) -> Var:
        return emit(call_op("gated_linear", [embed(emit, ids, table), w], kind="silu"))

    lowered = lower(build, {**TABLE, "w": (2 * width, 32)}, target=target, scheme=scheme)
    assert lowered.ops == ops


@pytest.mark.parametrize(
    ("op", "attributes", "num_tables"),
    [
        ("norm", {"kind": "rms", "eps": 1e-6}, 0),
        ("rope", {"interleaved": False, "rotary_dim": 8}, 2),
    ],
)
def test_columns_are_read_where_they_are(
    op: str, attributes: dict[str, object], num_tables: int
) -> None:
    """The kernel gets the whole merged matrix, and no slice of it is made."""

    def build(emit: Emit, ids: Var, _p: Var, _r: Var, table: Var, w: Var, cos: Var) -> Var:
        tables = [emit(call_op("embedding", [ids, cos]))] * num_tables
        merged = emit(call_op("linear", [embed(emit, ids, table), w]))
        part = emit(slice_columns(merged, 8, 24))
        tokens = part.ty.shape.values[1]
        heads = emit(relax.op.reshape(part, [1, tokens, 2, 8]))
        return emit(call_op(op, [heads, *tables], **attributes))

    lowered = lower(build, {**TABLE, "w": (24, 32), "cos": (40, 8)})
    assert lowered.ops[-1] == op
    assert lowered.calls[-1].shapes[0] == ("n", 24)
    assert "strided_slice" not in lowered.core


def test_a_residual_norm_is_one_kernel_with_two_results() -> None:
    def build(emit: Emit, ids: Var, _p: Var, _r: Var, table: Var, w: Var) -> relax.Tuple:
        x = embed(emit, ids, table)
        both = emit(call_op("residual_norm", [x, x, w], kind="rms", eps=1e-6))
        return relax.Tuple([emit(relax.TupleGetItem(both, i)) for i in range(2)])

    lowered = lower(build, {**TABLE, "w": (32,)})
    assert lowered.ops == ["embedding", "norm"]
    assert lowered.calls[1].shapes == (("n", 32), ("n", 32), (32,))


@pytest.mark.parametrize(("halves", "operands"), [(1, 1), (2, 2)])
def test_a_gated_activation_takes_one_matrix_or_two(halves: int, operands: int) -> None:
    def build(emit: Emit, ids: Var, _p: Var, _r: Var, table: Var) -> Var:
        x = embed(emit, ids, table)
        return emit(call_op("gated_activation", [x] * halves, kind="silu"))

    lowered = lower(build, TABLE)
    assert lowered.calls[-1].op == "activation"
    assert lowered.calls[-1].shapes == (("n", 32),) * operands
