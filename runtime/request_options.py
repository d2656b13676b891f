"""Turns what a caller says about one request, beside its tokens, into checked values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ingot.errors import RequestError

# What an embedding is made of. mean: of all tokens; last: of the last token, which has seen all
# others.
PoolingKind = Literal["mean", "last"]
POOLING_KINDS: tuple[PoolingKind, ...] = ("mean", "last")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """How a request is treated; `SamplingParams` say what it answers.

    priority      higher goes first and is preempted last; equals are served as they come
    timeout_s     the request ends with the reason "timeout" after this time, None for never
    prefix_cache  take pages of earlier prompts that begin alike, and leave its own for later ones
    cache_salt    requests share cached pages only with those of the same salt
    pooling       "mean" or "last": the answer is the prompt's embedding, of all tokens or of the
                  last one, and no text; the sampling parameters are not used
    """

    priority: int = 0
    timeout_s: float | None = None
    prefix_cache: bool = True
    cache_salt: str = ""
    pooling: PoolingKind | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.priority, int) or isinstance(self.priority, bool):
            raise RequestError(f"priority is {self.priority!r}; it is a whole number")
        timeout = self.timeout_s
        if timeout is not None and not (
            isinstance(timeout, int | float) and math.isfinite(timeout) and timeout > 0
        ):
            raise RequestError(f"timeout_s is {timeout!r}; it is a finite number above 0")
        if not isinstance(self.cache_salt, str):
            raise RequestError(f"cache_salt is {self.cache_salt!r}; it is a string")
        if self.pooling is not None and self.pooling not in POOLING_KINDS:
            raise RequestError(
                f"pooling is {self.pooling!r}; it is one of {', '.join(POOLING_KINDS)}"
            )
