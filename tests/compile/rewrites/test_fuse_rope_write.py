"""The keys' rotary embedding moves into the attention, which writes them to the cache.

What the fused write computes is held against its reference in
`tests/compile/kernels/test_kv_write.py`, and on whole models by their proofs.
"""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm.relax import Var

from ingot.compile.ops import call_op
from ingot.compile.rewrites.fuse_rope_write import fuse_rope_write
from tests.compile.graphs import TOKENS, Emit, trace

HEADS, KV_HEADS, DIM = 4, 2, 8
INPUTS = {
    "q": (1, TOKENS, HEADS, DIM),
    "k": (1, TOKENS, KV_HEADS, DIM),
    "v": (1, TOKENS, KV_HEADS, DIM),
    "sinks": (HEADS,),
    "cos": (1, TOKENS, DIM),
    "sin": (1, TOKENS, DIM),
}
ROPE = {"interleaved": False, "rotary_dim": DIM}
ATTENTION = {"slot": 0, "scale": 0.5, "has_sinks": True, "has_slopes": False}


def attention(*, store: bool, rotate: bool = True) -> tvm.IRModule:
    def build(emit: Emit, q: Var, k: Var, v: Var, sinks: Var, cos: Var, sin: Var) -> Var:
        key = emit(call_op("rope", [k, cos, sin], **ROPE)) if rotate else k
        return emit(call_op("paged_attention", [q, key, v, sinks], store=store, **ATTENTION))

    return trace(build, INPUTS)


def test_the_attention_takes_keys_as_projected() -> None:
    def expected(emit: Emit, q: Var, k: Var, v: Var, sinks: Var, cos: Var, sin: Var) -> Var:
        attributes: dict[str, Any] = {"store": True, "rope": ROPE, **ATTENTION}
        return emit(call_op("paged_attention", [q, k, v, sinks, cos, sin], **attributes))

    rewritten = fuse_rope_write(attention(store=True))
    assert rewritten.num_matched == 1
    tvm.ir.assert_structural_equal(
        rewritten.module["trace"], trace(expected, INPUTS)["trace"], map_free_vars=True
    )


def test_applied_twice_it_matches_once() -> None:
    once = fuse_rope_write(attention(store=True))
    assert fuse_rope_write(once.module).num_matched == 0


@pytest.mark.parametrize("options", [{"store": False}, {"store": True, "rotate": False}])
def test_does_not_apply(options: dict[str, bool]) -> None:
    rewritten = fuse_rope_write(attention(**options))
    assert rewritten.num_matched == 0
