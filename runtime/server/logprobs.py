"""Turns the engine's log probabilities into the two shapes of OpenAI's API."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.server.schemas.replies import (
    ChatLogprobs,
    CompletionLogprobs,
    ContentLogprob,
    TopLogprob,
)
from ingot.runtime.token_bytes import TokenBytes

# JSON has no infinity; OpenAI sends this for what can't be.
LOWEST = -9999.0


def finite(logprob: float) -> float:
    return max(logprob, LOWEST)


def chat_logprobs(tokens: TokenBytes, logprobs: Sequence[TokenLogprob]) -> ChatLogprobs:
    return {"content": [_content(tokens, each) for each in logprobs], "refusal": None}


def _top(tokens: TokenBytes, token: int, logprob: float) -> TopLogprob:
    raw = tokens[token]
    return {
        "token": raw.decode("utf-8", "replace"),
        "logprob": finite(logprob),
        "bytes": list(raw),
    }


def _content(tokens: TokenBytes, each: TokenLogprob) -> ContentLogprob:
    top = [_top(tokens, token, logprob) for token, logprob in each.top]
    return {**_top(tokens, each.token_id, each.logprob), "top_logprobs": top}


def name_token(raw: bytes) -> str:
    """A token's text; half characters as `bytes:\\xe2\\x82`, so that no two look alike."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class CompletionLogprobsWriter:
    """One output's lists, piece by piece: offsets go on from where the last piece ended."""

    def __init__(self, tokens: TokenBytes) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def write(
        self, logprobs: Sequence[TokenLogprob | None], ids: Sequence[int]
    ) -> CompletionLogprobs:
        """`logprobs` stand beside `ids`; the first token of a prompt has none."""
        lists: CompletionLogprobs = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for token, each in zip(ids, logprobs, strict=True):
            raw = self._tokens[token]
            lists["tokens"].append(name_token(raw))
            lists["text_offset"].append(self._offset)
            self._offset += len(self._decoder.decode(raw))
            lists["token_logprobs"].append(None if each is None else finite(each.logprob))
            lists["top_logprobs"].append(None if each is None else self._top(each))
        return lists

    def _top(self, each: TokenLogprob) -> dict[str, float]:
        named = {name_token(self._tokens[token]): finite(value) for token, value in each.top}
        # The chosen token is always among them.
        return {**named, name_token(self._tokens[each.token_id]): finite(each.logprob)}
