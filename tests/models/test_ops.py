"""The operators against loops over single positions, and the state that a batch keeps."""

import math

import pytest
import torch
from torch import Tensor

from ingot.models.ops import Batch, visible

HEADS, KV_HEADS, KEY_DIM, VALUE_DIM = 4, 2, 8, 6


def inputs(tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(1, HEADS, tokens, KEY_DIM, generator=generator),
        torch.randn(1, KV_HEADS, tokens, KEY_DIM, generator=generator),
        torch.randn(1, KV_HEADS, tokens, VALUE_DIM, generator=generator),
    )


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    window: int = 0,
    chunk: int = 0,
    softcap: float = 0.0,
    slot: int = 0,
    store: bool = True,
) -> Tensor:
    out: Tensor = torch.ops.ingot.paged_attention(
        q, k, v, sinks, slopes, slot, 0.3, True, window, chunk, softcap, store
    )
    return out


def one_score(
    q: Tensor, k: Tensor, head: int, query: int, key: int, softcap: float, slopes: Tensor | None
) -> float:
    score = 0.3 * float(q[0, head, query].double() @ k[0, head // 2, key].double())
    if softcap:
        score = softcap * math.tanh(score / softcap)
    return score + (float(slopes[head]) * key if slopes is not None else 0.0)


@pytest.mark.parametrize("softcap", [0.0, 0.5])
@pytest.mark.parametrize(("window", "chunk"), [(0, 0), (4, 0), (0, 5)])
@pytest.mark.parametrize("extra", ["none", "sinks", "slopes"])
def test_attention_by_definition(extra: str, window: int, chunk: int, softcap: float) -> None:
    tokens = 11
    q, k, v = inputs(tokens)
    sinks = torch.linspace(-1, 1, HEADS) if extra == "sinks" else None
    slopes = torch.linspace(0.1, 0.4, HEADS) if extra == "slopes" else None
    got = attention(q, k, v, sinks, slopes, window, chunk, softcap)
    for head in range(HEADS):
        for query in range(tokens):
            keys = [
                key
                for key in range(query + 1)
                if (not window or query - key < window)
                and (not chunk or query // chunk == key // chunk)
            ]
            weights = {
                key: math.exp(one_score(q, k, head, query, key, softcap, slopes)) for key in keys
            }
            total = sum(weights.values()) + (
                math.exp(float(sinks[head])) if sinks is not None else 0
            )
            want = sum(w / total * v[0, head // 2, key].double() for key, w in weights.items())
            torch.testing.assert_close(got[0, query, head].double(), want, rtol=1e-5, atol=1e-5)


def test_batch_keeps_sequences_apart() -> None:
    q, k, v = inputs(12)
    batch = Batch()
    with batch.step([("a", 5), ("b", 7)]):
        packed = attention(q, k, v)
    for start, end in ((0, 5), (5, 12)):
        alone = attention(q[:, :, start:end], k[:, :, start:end], v[:, :, start:end])
        torch.testing.assert_close(packed[:, start:end], alone)


def test_batch_remembers() -> None:
    q, k, v = inputs(9)
    whole = attention(q, k, v, window=4)
    batch, parts = Batch(), []
    for start, end in ((0, 6), (6, 7), (7, 9)):
        with batch.step([("a", end - start)]):
            piece = (x[:, :, start:end] for x in (q, k, v))
            parts.append(attention(*piece, window=4))
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_shared_slot_is_read_not_written() -> None:
    q, k, v = inputs(6)
    batch = Batch()
    with batch.step([("a", 6)]):
        first = attention(q, k, v, slot=3)
        again = attention(q, torch.zeros_like(k), torch.zeros_like(v), slot=3, store=False)
    torch.testing.assert_close(again, first)


def test_segments_must_cover_the_row() -> None:
    with Batch().step([("a", 5)]), pytest.raises(AssertionError, match="5 of 6"):
        attention(*inputs(6))


def test_visible_bidirectional_window() -> None:
    mask = visible(5, 5, causal=False, window=1, chunk=0)
    assert mask.sum(1).tolist() == [2, 3, 3, 3, 2]


def test_layer_output_is_the_identity() -> None:
    x = torch.randn(1, 3, 4)
    torch.testing.assert_close(torch.ops.ingot.layer_output(x, 1), x)
