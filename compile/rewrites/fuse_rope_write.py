"""Rotary embedding of the keys into their write to the cache, so that rotated keys are stored once.

Runs after `fuse_rope`. The attention takes the keys as projected and the cosine and sine tables;
queries keep their own `ingot.rope`.
"""

from __future__ import annotations

import tvm
from tvm import relax

from ingot.compile.graph import Graph, Rewritten, apply_rule, is_op
from ingot.compile.ops import attributes, call_op


def fuse_rope_write(module: tvm.IRModule) -> Rewritten:
    return apply_rule(module, _fuse)


def _fuse(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
    if not is_op(value, "ingot.paged_attention"):
        return None
    q, key, v, *optional = value.args
    rope, attrs = graph.match(key, "ingot.rope"), attributes(value)
    if rope is None or not attrs["store"] or "rope" in attrs:
        return None
    k, cos, sin = rope.args
    return call_op(
        "paged_attention", [q, k, v, *optional, cos, sin], **attrs, rope=attributes(rope)
    )
