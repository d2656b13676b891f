"""The body of `/v1/completions`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ingot.runtime.server.schemas.base import TokenId, one_of
from ingot.runtime.server.schemas.sampling import SamplingBody

Prompt = Annotated[
    str
    | Annotated[list[str], Field(min_length=1)]
    | Annotated[list[TokenId], Field(min_length=1)]
    | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)],
    one_of("a text, a list of texts, a list of token ids, or a list of such lists"),
]


class CompletionBody(SamplingBody):
    prompt: Prompt
    best_of: Annotated[int, Field(ge=1, le=1024)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    suffix: Any = None  # refused with a sentence, where "no such parameter" would mislead
