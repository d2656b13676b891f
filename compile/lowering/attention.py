"""`ingot.paged_attention` to a write into the page pools and the attention that reads them.

Layers that share keys and values share a slot: the first one writes, the others read what it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax, tirx

from ingot.compile.graph import is_op, shape_of
from ingot.compile.kernels.kv_write.spec import KvWriteSpec
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec, can_rotate
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.lowering.emitter import Emitter, View
from ingot.compile.lowering.operators import like, rope_spec
from ingot.compile.ops import attributes
from ingot.compile.step_inputs import StepInputs
from ingot.models.attention import KVSlot

POOL_DTYPES = {"float32": "float32", "bfloat16": "uint16", "float16": "float16"}
"""KV dtype -> dtype of the pools' elements; bfloat16 is kept as its bits."""


class AttentionLowering:
    """Holds the pools of every slot, and the variables that stand for them once written."""

    def __init__(self, emitter: Emitter, inputs: StepInputs, kv_slots: Sequence[KVSlot]) -> None:
        self._emitter = emitter
        self._inputs = inputs
        self._page_size = emitter.target.page_size_tokens
        self._kv_dtype = emitter.formats.scheme.kv_dtype
        self._pools = self._create_pools(kv_slots)
        self._written: dict[int, tuple[relax.Expr, relax.Expr]] = {}

    @property
    def pools(self) -> list[relax.Var]:
        """Keys' and values' pool of each slot, in the order of the step's argument."""
        return [pool for pair in self._pools for pool in pair]

    def _create_pools(self, kv_slots: Sequence[KVSlot]) -> list[tuple[relax.Var, relax.Var]]:
        size, dtype = self._page_size, POOL_DTYPES[self._kv_dtype]
        slabs = {s.kv_heads: tirx.Var(f"num_slabs_{s.kv_heads}", "int64") for s in kv_slots}
        return [
            (
                relax.Var(f"k{i}", relax.TensorType([slabs[s.kv_heads], s.key_dim, size], dtype)),
                relax.Var(f"v{i}", relax.TensorType([slabs[s.kv_heads], size, s.value_dim], dtype)),
            )
            for i, s in enumerate(kv_slots)
        ]

    def lower(self, var: relax.Var, call: relax.Call) -> relax.Expr:
        q, k, v, *optional = call.args
        attrs = attributes(call)
        slot, store, rope = attrs.pop("slot"), attrs.pop("store"), attrs.pop("rope", None)
        tables = [optional.pop() for _ in range(2)][::-1] if rope is not None else []
        if store:
            self._written[slot] = self._write(slot, k, v, rope, tables)
        emitter, inputs = self._emitter, self._inputs
        view, query_rope, angles = self._query(var, q)
        _, tokens, heads, key_dim = shape_of(q)
        kv_heads, value_dim = (int(extent) for extent in shape_of(v)[2:])
        spec = PagedAttentionSpec(
            num_heads=int(heads),
            kv_heads=kv_heads,
            key_dim=int(key_dim),
            value_dim=value_dim,
            kv_dtype=self._kv_dtype,
            page_size=self._page_size,
            row_width=view.row_width,
            column_offset=view.column_offset,
            rope=query_rope,
            **attrs,
        )
        operands = [
            view.matrix,
            *self._written[slot],
            inputs.page_table,
            inputs.query_offsets,
            inputs.context_lengths,
            *map(emitter.plain, optional),
            *angles,
        ]
        shape = [tokens, spec.num_heads * value_dim]
        return like(emitter.call("paged_attention", spec, operands, shape), call)

    def _query(
        self, var: relax.Var, q: relax.Expr
    ) -> tuple[View, RopeSpec | None, list[relax.Expr]]:
        """Where the query is, and if it is to be rotated by the kernel, how, and by which tables.
        What was emitted for the rotation then has no user left, and goes."""
        emitter, graph = self._emitter, self._emitter.graph
        source = graph.old_value(graph.old_value(var).args[0])
        if not is_op(source, "ingot.rope") or not can_rotate(emitter.target):
            return emitter.view(q), None, []
        x, cos, sin = (graph.substitute(operand) for operand in source.args)
        view = emitter.view(x)
        rope = rope_spec(x, cos, view, attributes(source))
        return view, rope, [emitter.flat(cos), emitter.flat(sin)]

    def _write(
        self,
        slot: int,
        k: relax.Expr,
        v: relax.Expr,
        rope: dict[str, Any] | None,
        tables: list[relax.Expr],
    ) -> tuple[relax.Expr, relax.Expr]:
        """Write the new tokens' keys and values; gives the pools as they are afterwards.

        With `rope`, the keys are rotated on their way by the cosine and sine `tables`.
        """
        emitter = self._emitter
        key, value = emitter.view(k), emitter.view(v)
        kv_heads, key_dim = (int(extent) for extent in shape_of(k)[2:])
        spec = KvWriteSpec(
            kv_heads=kv_heads,
            key_dim=key_dim,
            value_dim=int(shape_of(v)[-1]),
            kv_dtype=self._kv_dtype,
            page_size=self._page_size,
            key_row_width=key.row_width,
            key_column_offset=key.column_offset,
            value_row_width=value.row_width,
            value_column_offset=value.column_offset,
            rope=None if rope is None else rope_spec(k, tables[0], key, rope),
        )
        pools = self._pools[slot]
        inputs = [key.matrix, value.matrix, self._inputs.slots, *map(emitter.flat, tables)]
        emit = emitter.graph.emit
        written = emit(
            relax.op.call_tir_inplace(
                emitter.kernel("kv_write", spec),
                [*inputs, *pools],
                [len(inputs), len(inputs) + 1],
                [pool.ty for pool in pools],
            )
        )
        first, second = (emit(relax.TupleGetItem(written, i)) for i in range(2))
        return first, second
