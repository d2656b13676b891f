"""`/tokenize` and `/detokenize`: text to the model's token ids and back."""

from __future__ import annotations

from fastapi import APIRouter, Request

from ingot.runtime.server.encoding import encode_text
from ingot.runtime.server.errors import bad_request
from ingot.runtime.server.messages import encode_chat
from ingot.runtime.server.schemas.other import DetokenizeBody, TokenizeBody
from ingot.runtime.server.schemas.replies import DetokenizeReply, TokenizeReply
from ingot.runtime.server.state import get_state

router = APIRouter()


@router.post("/tokenize")
async def tokenize(body: TokenizeBody, request: Request) -> TokenizeReply:
    """The token ids of a text, or of a conversation as its template writes it."""
    state = get_state(request)
    state.check_model(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise bad_request("one of prompt and messages is given", "prompt")
    if body.prompt is not None:
        special = body.add_special_tokens is not False
        tokens = await encode_text(state, body.prompt, add_special_tokens=special)
    else:
        assert body.messages is not None
        tokens = await encode_chat(state, body.messages, body.tools, body.chat_template_kwargs)
    limit = state.max_context_tokens
    reply: TokenizeReply = {"count": len(tokens), "max_model_len": limit, "tokens": tokens}
    if body.return_token_strs:
        texts = [state.token_bytes[token].decode("utf-8", "replace") for token in tokens]
        reply["token_strs"] = texts
    return reply


@router.post("/detokenize")
async def detokenize(body: DetokenizeBody, request: Request) -> DetokenizeReply:
    """The text of token ids, without special tokens."""
    state = get_state(request)
    state.check_model(body.model)
    vocab_size = state.engine.model_info.step.vocab_size
    for index, token in enumerate(body.tokens):
        if token >= vocab_size:
            raise bad_request(
                f"tokens[{index}] is {token}; the model's tokens are 0 to {vocab_size - 1}",
                f"tokens[{index}]",
            )
    return {"prompt": state.engine.tokenizer.decode(body.tokens)}
