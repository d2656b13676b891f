"""Attention becomes a write into the page pools of its slot and a read of what was written."""

from __future__ import annotations

from typing import Any

import pytest
from tvm import relax
from tvm.relax import Var

from ingot.compile.column_slice import slice_columns
from ingot.compile.ops import call_op
from ingot.models.attention import KVSlot
from tests.compile.graphs import Emit
from tests.compile.lowering.lowered import CPU, GPU, Lowered, lower

HEADS, KV_HEADS, DIM = 4, 2, 16
Q, KV = HEADS * DIM, KV_HEADS * DIM
WEIGHTS = {"table": (40, 32), "qkv": (Q + 2 * KV, 32), "angles": (40, DIM)}
ROPE = {"interleaved": False, "rotary_dim": DIM}
SLOT = KVSlot(KV_HEADS, DIM, DIM, window=0)
ATTENTION: dict[str, Any] = {"scale": 0.25, "causal": True, "has_sinks": False, "has_slopes": False}


def lower_layers(
    stores: list[bool], *, target: str = CPU, scheme: str = "f32", rotate: bool = False
) -> Lowered:
    """Attention layers over one slot, each over the same merged q, k and v; those that store write
    their keys and values first."""

    def build(
        emit: Emit, ids: Var, positions: Var, _r: Var, table: Var, qkv: Var, angles: Var
    ) -> relax.Tuple:
        x = emit(call_op("embedding", [ids, table]))
        tokens = x.ty.shape.values[1]
        cos = emit(call_op("embedding", [positions, angles]))
        merged = emit(call_op("linear", [x, qkv]))

        def heads(begin: int, end: int) -> Var:
            columns = emit(slice_columns(merged, begin, end))
            return emit(relax.op.reshape(columns, [1, tokens, (end - begin) // DIM, DIM]))

        q, k, v = heads(0, Q), heads(Q, Q + KV), heads(Q + KV, Q + 2 * KV)
        query = emit(call_op("rope", [q, cos, cos], **ROPE)) if rotate else q
        tables, with_rope = ([cos, cos], {"rope": ROPE}) if rotate else ([], {})
        results = []
        for store in stores:
            call = call_op(
                "paged_attention",
                [query, k, v, *(tables if store else [])],
                slot=0,
                store=store,
                **(with_rope if store else {}),
                **ATTENTION,
            )
            results.append(emit(relax.op.reshape(emit(call), [1, tokens, Q])))
        return relax.Tuple(results)

    return lower(build, WEIGHTS, kv_slots=[SLOT], target=target, scheme=scheme)


def test_keys_and_values_are_written_and_then_read() -> None:
    lowered = lower_layers([True])
    assert lowered.ops[-2:] == ["kv_write", "paged_attention"]
    write, attention = lowered.calls[-2:]
    assert write.is_in_place and not attention.is_in_place
    # Keys, values and queries are columns of one matrix that is read where it is.
    assert write.shapes[:2] == (("n", Q + 2 * KV),) * 2
    assert attention.shapes[0] == ("n", Q + 2 * KV)
    slabs = f"num_slabs_{KV_HEADS}"
    pools = ((slabs, DIM, 32), (slabs, 32, DIM))
    assert write.shapes[-2:] == pools
    assert attention.shapes[1:3] == pools
    page_table, _offsets, context_lengths = attention.shapes[3:]
    assert (page_table, context_lengths) == (("b", "p"), ("b",))


def test_layers_that_share_a_slot_write_it_once() -> None:
    lowered = lower_layers([True, False])
    assert lowered.ops[-3:] == ["kv_write", "paged_attention", "paged_attention"]


@pytest.mark.parametrize(
    ("target", "ops"),
    [
        (CPU, ["rope", "kv_write", "paged_attention"]),
        (GPU, ["kv_write", "paged_attention"]),  # the query is rotated where it is loaded
    ],
)
def test_keys_are_rotated_by_their_write(target: str, ops: list[str]) -> None:
    lowered = lower_layers([True], target=target, rotate=True)
    assert [op for op in lowered.ops if op not in ("embedding", "matmul")] == ops
    write = lowered.calls[-2]
    assert write.shapes[3:5] == (("n", DIM),) * 2


@pytest.mark.parametrize(
    ("scheme", "dtype"), [("f32", "float32"), ("f16", "float16"), ("bf16", "uint16")]
)
def test_pools_hold_what_the_scheme_keeps(scheme: str, dtype: str) -> None:
    lowered = lower_layers([True], scheme=scheme)
    pools = next(p for p in lowered.function.params if p.name == "kv_pools")
    assert [str(field.dtype.dtype) for field in pools.ty.fields] == [dtype] * 2
