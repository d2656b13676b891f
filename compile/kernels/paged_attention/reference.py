"""Turns queries and paged keys and values into attention output in float64, by sequence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels.kv_write.reference import from_kv_dtype, to_kv_dtype
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec, WeightRounding
from ingot.runtime.artifact.kv_layout import slab_index

Float = NDArray[np.float32]
Int = NDArray[np.int32]


def visible(spec: PagedAttentionSpec, query: NDArray[np.int64], key: NDArray[np.int64]) -> Float:
    """[queries, keys] bool: which key positions each query position may look at."""
    i, j = query[:, None], key[None, :]
    mask = np.broadcast_to(True, (len(query), len(key)))
    if spec.causal:
        mask = mask & (j <= i)
    if spec.window:
        mask = mask & (i - j < spec.window)
    if spec.chunk:
        mask = mask & (i // spec.chunk == j // spec.chunk)
    return mask


def reference(
    spec: PagedAttentionSpec,
    query: Float,
    key_pool: NDArray[np.generic],
    value_pool: NDArray[np.generic],
    page_table: Int,
    query_offsets: Int,
    context_lengths: Int,
    sinks: Float | None = None,
    slopes: Float | None = None,
) -> NDArray[np.float64]:
    """query[n, row_width] -> [n, num_heads * value_dim]."""
    n, heads = len(query), spec.num_heads
    group = heads // spec.kv_heads
    width = heads * spec.key_dim
    q = query[:, spec.column_offset : spec.column_offset + width].astype(np.float64)
    q = q.reshape(n, heads, spec.key_dim)
    out = np.zeros((n, heads, spec.value_dim))
    for sequence, length in enumerate(context_lengths):
        first, last = query_offsets[sequence], query_offsets[sequence + 1]
        pages = page_table[sequence, : -(-int(length) // spec.page_size)]
        slabs = slab_index(pages, np.arange(spec.kv_heads)[:, None], spec.kv_heads)
        keys = from_kv_dtype(key_pool[slabs], spec.kv_dtype).swapaxes(2, 3)
        keys = keys.reshape(spec.kv_heads, -1, spec.key_dim)[:, :length]
        values = from_kv_dtype(value_pool[slabs], spec.kv_dtype)
        values = values.reshape(spec.kv_heads, -1, spec.value_dim)[:, :length]
        positions = np.arange(length - (last - first), length)
        mask = visible(spec, positions, np.arange(length))
        for head in range(heads):
            scores = q[first:last, head] @ keys[head // group].T * np.float64(spec.scale)
            if spec.softcap:
                scores = np.tanh(scores / spec.softcap) * spec.softcap
            if slopes is not None:
                scores = scores + slopes[head].astype(np.float64) * np.arange(length)
            scores = np.where(mask, scores, -np.inf)
            if sinks is not None:
                column = np.full((len(scores), 1), sinks[head], np.float64)
                scores = np.concatenate([scores, column], axis=1)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-1e300))
            weights /= weights.sum(axis=1, keepdims=True)
            out[first:last, head] = weights[:, :length] @ values[head // group]
    return out.reshape(n, heads * spec.value_dim)


def round_weights(weights: Float, rounding: WeightRounding, dtype: str) -> Float:
    """Softmax weights `[..., keys]` as kernels make them that round before they divide by the sum:
    relative to the largest weight so far, run by run."""
    largest = np.zeros_like(weights[..., :1])
    rounded, total = np.empty_like(weights), np.zeros_like(largest)
    for first in range(0, weights.shape[-1], rounding.run_tokens):
        run = weights[..., first : first + rounding.run_tokens]
        largest = np.maximum(largest, run.max(-1, keepdims=True))
        relative = run / np.where(largest == 0, np.float32(1), largest)
        stored = to_kv_dtype(relative.astype(np.float32), dtype)
        kept = from_kv_dtype(stored, dtype).astype(np.float32) * largest
        rounded[..., first : first + rounding.run_tokens] = kept
        total += (kept if rounding.sums_rounded else run).sum(-1, keepdims=True)
    result: Float = rounded / total
    return result
