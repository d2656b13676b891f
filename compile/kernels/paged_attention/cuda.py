"""The paged attention of `cpu.py` on a GPU: which kernel, by the cache's type and the step's rows.

A 16-bit cache goes to tensor cores (`cuda_tensor.py`): few rows with the context split over blocks,
many rows with whole contexts. A float32 cache, or sizes that no fragment fits, go one value at a
time (`cuda_plain.py`).
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.paged_attention.cuda_plain import attend_plain
from ingot.compile.kernels.paged_attention.cuda_tensor import attend_split, attend_whole
from ingot.compile.kernels.paged_attention.cuda_tensors import Tensors
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec, has_fragments
from ingot.compile.kernels.vector_ir import T, count, kernel, otherwise_if, pool_dtype
from ingot.targets import Target

# Up to here the context is split, if nothing was measured: else there are fewer blocks than
# multiprocessors.
SPLIT_ROWS = 64


def build(spec: PagedAttentionSpec, target: Target) -> tirx.PrimFunc:
    """(q, key_pool, value_pool, page_table, query_offsets, context_lengths,
    [sinks,] [slopes,] [cos, sin,] out) -> nothing; writes the rows of out that belong to a
    sequence."""
    n, b, p, slabs = count("n"), count("b"), count("p"), count("num_slabs")
    dtype, heads = pool_dtype(spec.kv_dtype), spec.num_heads
    keys = (slabs, spec.key_dim, spec.page_size)
    values = (slabs, spec.page_size, spec.value_dim)
    with kernel("paged_attention") as k:
        tensors = Tensors(
            n=n,
            b=b,
            p=p,
            query=k.argument("q", (n, spec.row_width)),
            key_pool=k.argument("key_pool", keys, dtype),
            value_pool=k.argument("value_pool", values, dtype),
            page_table=k.argument("page_table", (b, p), "int32"),
            query_offsets=k.argument("query_offsets", (count("b_plus_1"),), "int32"),
            context_lengths=k.argument("context_lengths", (b,), "int32"),
            sinks=k.argument("sinks", (heads,)) if spec.has_sinks else None,
            slopes=k.argument("slopes", (heads,)) if spec.has_slopes else None,
            tables=None
            if spec.rope is None
            else (
                k.argument("cos", (n, spec.rope.cos_width)),
                k.argument("sin", (n, spec.rope.cos_width)),
            ),
            out=k.argument("out", (n, heads * spec.value_dim)),
        )
        if not has_tensor_kernels(spec):
            attend_plain(spec, tensors)
        else:
            with otherwise_if(tirx.And(n > 0, b > 0)):
                with T.If(n <= target.size("attention_split_rows", SPLIT_ROWS)):
                    with T.Then():
                        attend_split(spec, tensors, target)
                    with T.Else():
                        attend_whole(spec, tensors, target)
    return k.function


def has_tensor_kernels(spec: PagedAttentionSpec) -> bool:
    return has_fragments(spec.kv_dtype, spec.key_dim, spec.value_dim, spec.page_size)
