"""What a request gives back: chunks while it runs, a completion when it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# stop: an end token or a stop string; length: max_tokens or the end of the context
FinishReason = Literal["stop", "length", "abort"]


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
    from one token to the next after it, 0 with fewer than two tokens."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_preemptions: int
    ttft_s: float
    tpot_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one step added to one request.

    `text` may lag behind `token_ids`: half a character, or what may become a stop string, is held
    back. The last chunk has a `finish_reason` and `stats`.
    """

    request_id: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stats: RequestStats | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request. `token_ids` holds every token the model chose, the end token included;
    `text` is without end tokens and stop strings."""

    request_id: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stats: RequestStats
    logprobs: tuple[TokenLogprob, ...] = ()
