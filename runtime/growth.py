"""Turns chosen tokens into the growth of an output: its tokens, its text, and whether it ends."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from ingot.errors import RequestError
from ingot.runtime.outputs import Chunk, FinishReason, TokenLogprob
from ingot.runtime.sampler import Choice
from ingot.runtime.sequence import Sequence


def grow(
    sequence: Sequence, sampled: Seq[Choice], now_s: float
) -> tuple[Chunk, FinishReason | None]:
    """Append chosen tokens up to one that ends the output; the reason, if one does."""
    is_first = sequence.num_output_tokens == 0
    if is_first:
        sequence.first_token_s = now_s
    sequence.last_token_s = now_s
    text = ""
    tokens: list[int] = []
    logprobs: list[TokenLogprob] = []
    reason: FinishReason | None = None
    error = ""
    for token, logprob in sampled:
        is_end = token in sequence.end_token_ids
        if sequence.matcher is not None:
            try:
                sequence.matcher.advance(token, is_end=is_end)
            except RequestError as mistake:
                reason, error = "error", str(mistake)
                break
        sequence.tokens.append(token)
        tokens.append(token)
        if logprob is not None:
            logprobs.append(logprob)
            sequence.sum_logprobs += logprob.logprob
        can_stop = sequence.num_output_tokens >= sequence.params.min_tokens
        text += "" if is_end else sequence.text.push(token, can_stop)
        is_done = sequence.matcher is not None and sequence.matcher.is_done
        if is_end or is_done or sequence.text.found_stop:
            reason = "stop"
        elif len(sequence.tokens) >= sequence.max_total_tokens:
            reason = "length"
        if reason is not None:
            break
    if reason is not None:
        text += sequence.text.finish()
    chunk = Chunk(
        sequence.request_id,
        text,
        tuple(tokens),
        tuple(logprobs),
        index=sequence.index,
        prompt_logprobs=tuple(sequence.prompt_logprobs) if is_first else (),
        error=error,
    )
    return chunk, reason
