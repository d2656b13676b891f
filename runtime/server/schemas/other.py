"""The bodies of `/v1/embeddings`, `/tokenize` and `/detokenize`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ingot.runtime.request_options import PoolingKind
from ingot.runtime.server.schemas.base import JsonObject, RequestBody, TokenId
from ingot.runtime.server.schemas.chat import Message, Tool
from ingot.runtime.server.schemas.completion import Prompt


class EmbeddingBody(RequestBody):
    model: Annotated[str, Field(max_length=1024)]
    input: Prompt
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    pooling: PoolingKind | None = None
    normalize: bool | None = None


class TokenizeBody(RequestBody):
    """A text (`prompt`) or a conversation (`messages`)."""

    model: Annotated[str, Field(max_length=1024)] | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    chat_template_kwargs: JsonObject | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(RequestBody):
    model: Annotated[str, Field(max_length=1024)] | None = None
    tokens: Annotated[list[TokenId], Field(max_length=1 << 20)]
