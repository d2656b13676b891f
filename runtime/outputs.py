"""What a request gives back: chunks while it runs, a completion when it is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# stop: an end token or a stop string, or the embedding is there; length: max_tokens or the end of
# the context; timeout: the request's own; error: this request failed while it ran, and no other
FinishReason = Literal["stop", "length", "abort", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural log of a token's probability, before penalties and temperature.

    `top` are the likeliest tokens at this place, likeliest first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RequestStats:
    """Times in seconds. TTFT runs from `add_request` to the first token; TPOT is the mean time
    from one token to the next after it, 0 with fewer than two tokens. `queue_s`, `prefill_s` and
    `decode_s` add up to `total_s`: until it first ran, until its first token, until its last.
    `longest_stall_s` is the longest time from one token to the next while a prompt was read, and
    `longest_step_s` that of a step that read the prompt or continued the output."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_preemptions: int
    ttft_s: float
    tpot_s: float
    total_s: float
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    num_prefix_hit_tokens: int = 0  # prompt tokens that were in the cache
    num_proposed_tokens: int = 0  # by speculation
    num_accepted_tokens: int = 0
    longest_stall_s: float = 0.0
    longest_step_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one step added to one output of one request; `index` counts its outputs from 0.
    `prompt_logprobs`, of the prompt's tokens from the second on, come with an output's first token.

    `text` may lag behind `token_ids`: half a character, or what may become a stop string, is held
    back. An output's last chunk has a `finish_reason` and `stats`, the request's last chunk
    `is_last`.
    """

    request_id: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stats: RequestStats | None = None
    index: int = 0
    is_last: bool = False
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    error: str = ""  # what happened, with the reason "error"
    embedding: NDArray[np.float32] | None = field(default=None, compare=False)  # of the prompt


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished output. `token_ids` holds every token the model chose, the end token included;
    `text` is without end tokens and stop strings."""

    request_id: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stats: RequestStats
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    index: int = 0


def merge_chunks(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """Chunks of one request that nobody has taken yet as one for each of its outputs, in the order
    in which the outputs were last added to."""
    if len(chunks) == 1:
        return chunks
    parts: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        parts[chunk.index] = several = parts.pop(chunk.index, [])
        several.append(chunk)
    return [_merge_output(several) for several in parts.values()]


def _merge_output(parts: list[Chunk]) -> Chunk:
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[-1],
        text="".join(part.text for part in parts),
        token_ids=tuple(token for part in parts for token in part.token_ids),
        logprobs=tuple(logprob for part in parts for logprob in part.logprobs),
        prompt_logprobs=parts[0].prompt_logprobs,
    )


def join_chunks(chunks: Iterable[Chunk]) -> list[Completion]:
    """The outputs of one request, in the order of their index, from all of its chunks."""
    parts: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        parts.setdefault(chunk.index, []).append(chunk)
    return [_join_output(parts[index]) for index in sorted(parts)]


def _join_output(parts: list[Chunk]) -> Completion:
    last = parts[-1]
    assert last.finish_reason is not None and last.stats is not None
    return Completion(
        request_id=last.request_id,
        text="".join(part.text for part in parts),
        token_ids=tuple(token for part in parts for token in part.token_ids),
        finish_reason=last.finish_reason,
        stats=last.stats,
        logprobs=tuple(logprob for part in parts for logprob in part.logprobs),
        prompt_logprobs=parts[0].prompt_logprobs,
        index=last.index,
    )
