"""The torch operators that a captured model calls, with their meaning written as plain torch.

Export keeps each of them as one node and the compiler turns it into a kernel. Run in torch, they
hold the cache of every sequence of a `Batch`, so captured and plain models are compared before
anything is compiled.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_current_batch: ContextVar["Batch | None"] = ContextVar("ingot_batch", default=None)


class Batch:
    """Sequences flattened into one row of tokens, and the keys and values of each in each slot.

    With no batch in force a row is one sequence that starts here and is forgotten afterwards.
    """

    def __init__(self) -> None:
        self._cached: dict[tuple[Hashable, int], tuple[Tensor, Tensor]] = {}
        self._segments: tuple[tuple[Hashable, int], ...] = ()

    @contextmanager
    def step(self, segments: Sequence[tuple[Hashable, int]]) -> Iterator[None]:
        """While the context is open, the row of tokens holds these sequences one after the other,
        each with so many new tokens."""
        self._segments = tuple(segments)
        token = _current_batch.set(self)
        try:
            yield
        finally:
            _current_batch.reset(token)

    def rows(self, num_tokens: int) -> Iterator[tuple[Hashable, int, int]]:
        """Each sequence with its half-open range of rows [start, end)."""
        start = 0
        for sequence, length in self._segments:
            yield sequence, start, start + length
            start += length
        assert start == num_tokens, f"segments cover {start} of {num_tokens} tokens"

    def get(self, sequence: Hashable, slot: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the sequence's tokens so far."""
        return self._cached.get((sequence, slot))

    def put(self, sequence: Hashable, slot: int, keys: Tensor, values: Tensor) -> None:
        self._cached[sequence, slot] = keys, values


def batch_of(num_tokens: int) -> Batch:
    """The batch in force, or one fresh sequence of `num_tokens`."""
    batch = _current_batch.get()
    if batch is None:
        batch = Batch()
        batch._segments = ((None, num_tokens),)
    return batch


def visible(num_queries: int, num_keys: int, causal: bool, window: int, chunk: int) -> Tensor:
    """[num_queries, num_keys] mask; the queries are the last positions. 0 means none."""
    query = torch.arange(num_keys - num_queries, num_keys)[:, None]
    key = torch.arange(num_keys)[None, :]
    mask = torch.ones(num_queries, num_keys, dtype=torch.bool)
    if causal:
        mask &= key <= query
    if window > 0:
        mask &= (query - key < window) if causal else ((query - key).abs() <= window)
    if chunk > 0:
        mask &= (query // chunk) == (key // chunk)
    return mask


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    scale: float,
    softcap: float,
    sinks: Tensor | None,
    slopes: Tensor | None,
) -> Tensor:
    """softmax(cap(q·k·scale) + slope·key_position | sink)·v in float32.

    q [H, n, Dk], k [Hkv, t, Dk], v [Hkv, t, Dv], sinks [H], slopes [H] -> [n, H, Dv].
    """
    group = q.shape[0] // k.shape[0]
    k, v = k.float().repeat_interleave(group, 0), v.float().repeat_interleave(group, 0)
    scores = torch.matmul(q.float(), k.transpose(1, 2)) * scale
    if softcap > 0:
        scores = torch.tanh(scores / softcap) * softcap
    if slopes is not None:
        scores = scores + slopes.float()[:, None, None] * torch.arange(k.shape[1])
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        sink = sinks.float()[:, None, None].expand(-1, scores.shape[1], 1)
        weights = torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]
    else:
        weights = torch.softmax(scores, -1)
    return torch.matmul(weights, v).transpose(0, 1)


@torch.library.custom_op("ingot::paged_attention", mutates_args=())
def paged_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sinks: Tensor | None,
    slopes: Tensor | None,
    slot: int,
    scale: float,
    causal: bool,
    window: int,
    chunk: int,
    softcap: float,
    store: bool,
) -> Tensor:
    """q [1, H, n, Dk], k [1, Hkv, n, Dk], v [1, Hkv, n, Dv] of the new tokens -> [1, n, H, Dv].

    slot: where its keys and values are cached; slots are numbered in call order.
    store: write k and v to the slot first; False when an earlier layer wrote the same k and v.
    slopes: ALiBi, slope * key position is added after scaling. sinks: a softmax column a head.
    """
    out = v.new_empty(1, q.shape[2], q.shape[1], v.shape[3])
    batch = batch_of(q.shape[2])
    for sequence, start, end in batch.rows(q.shape[2]):
        keys, values = k[0, :, start:end], v[0, :, start:end]
        past = batch.get(sequence, slot)
        if not store and past is not None:
            keys, values = past
        elif past is not None:
            keys, values = torch.cat([past[0], keys], 1), torch.cat([past[1], values], 1)
        if store:
            batch.put(sequence, slot, keys, values)
        mask = visible(end - start, keys.shape[1], causal, window, chunk)
        queries = q[0, :, start:end]
        out[0, start:end] = attend(queries, keys, values, mask, scale, softcap, sinks, slopes)
    return out


@paged_attention.register_fake
def _(q: Tensor, _k: Tensor, v: Tensor, *_: object) -> Tensor:
    return v.new_empty(1, q.shape[2], q.shape[1], v.shape[3])


@torch.library.custom_op("ingot::layer_output", mutates_args=())
def layer_output(x: Tensor, layer: int) -> Tensor:
    """x, marked as the hidden state that decoder layer `layer` hands on, for the proof."""
    return x.clone()


@layer_output.register_fake
def _(x: Tensor, layer: int) -> Tensor:
    return torch.empty_like(x)
