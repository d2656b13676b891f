"""The fields that completions and chats share: how to choose tokens, when to stop, how to treat
the request. `sampling.py` makes the engine's values of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ingot.runtime.server.schemas.base import Body, JsonObject, RequestBody, TokenId, one_of

Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Stop = Annotated[str | list[str], one_of("a text or a list of texts")]


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # padding against eavesdroppers; nothing is added


class SamplingBody(RequestBody):
    """OpenAI's fields, then ours."""

    model: Annotated[str, Field(max_length=1024)]
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Bias], Field(max_length=4096)] | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    n: Annotated[int, Field(ge=1, le=1024)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Accepted and without effect here: they name the user, not the text.
    user: str | None = None
    metadata: JsonObject | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    # Ours
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=1024)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    prefix_cache: bool | None = None
    cache_salt: Annotated[str, Field(max_length=1024)] | None = None
