"""Turns texts into token ids without holding the other requests up."""

from __future__ import annotations

import asyncio

from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.schemas.completion import Prompt
from ingot.runtime.server.state import ServerState

LONG_TEXT = 20_000  # characters; encoding more would hold the event loop up for milliseconds
# No text fits that has more characters than this for each token of the context.
MAX_CHARACTERS_PER_TOKEN = 64


async def encode_text(
    state: ServerState, text: str, *, add_special_tokens: bool = True, param: str = "prompt"
) -> list[int]:
    limit = state.max_context_tokens * MAX_CHARACTERS_PER_TOKEN
    if len(text) > limit:
        raise bad_request(
            f"the text has {len(text)} characters; the model's context of "
            f"{state.max_context_tokens} tokens holds less",
            param,
            "context_length_exceeded",
        )
    encode = state.engine.tokenizer.encode
    if len(text) < LONG_TEXT:
        return encode(text, add_special_tokens=add_special_tokens)
    return await asyncio.to_thread(encode, text, add_special_tokens=add_special_tokens)


async def encode_prompts(
    state: ServerState, prompt: Prompt, *, param: str = "prompt"
) -> list[list[int]]:
    """One prompt or several, texts or token ids."""
    if isinstance(prompt, str):
        return [await encode_text(state, prompt, param=param)]
    if isinstance(prompt[0], int):
        return [prompt]
    if len(prompt) > state.settings.max_choices:
        raise bad_request(
            f"there are {len(prompt)} prompts; this server takes {state.settings.max_choices}",
            param,
        )
    return [
        await encode_text(state, each, param=param) if isinstance(each, str) else each
        for each in prompt
    ]
