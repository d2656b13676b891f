"""Turns what the model and the machine allow into answers to requests that ask for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingot.errors import QueueFull, RequestError
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams

DEFAULT_MAX_SEQUENCES = 64
DEFAULT_MAX_STEP_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """max_waiting is None when any number of requests may wait; `can_embed` says whether the
    artifact has a function for embeddings."""

    vocab_size: int
    max_context_tokens: int
    cache_tokens: int
    max_sequences: int
    max_step_tokens: int
    max_waiting: int | None = None
    can_embed: bool = False

    def check(
        self, prompt: Sequence[int], params: SamplingParams, options: RequestOptions | None = None
    ) -> None:
        """Raise if a request can't be run, however long it waits."""
        is_embedding = options is not None and options.pooling is not None
        if is_embedding and not self.can_embed:
            raise RequestError(
                "the artifact has no function for embeddings",
                hint="compile the model again with this version of Ingot",
            )
        params.check_vocabulary(self.vocab_size)
        if not len(prompt):
            raise RequestError("the prompt is empty; it needs at least one token")
        if min(prompt) < 0 or max(prompt) >= self.vocab_size:
            raise RequestError(
                f"the prompt has a token outside 0 to {self.vocab_size - 1}, the model's tokens"
            )
        num_tokens = len(prompt) + (0 if is_embedding else 1)
        included = "" if is_embedding else ", the answer's included"
        if num_tokens > self.max_context_tokens:
            raise RequestError(
                f"the prompt has {len(prompt)} tokens; the model's context holds "
                f"{self.max_context_tokens}{included}"
            )
        if num_tokens > self.cache_tokens:
            raise RequestError(
                f"the prompt has {len(prompt)} tokens; the KV cache holds "
                f"{self.cache_tokens}{included}",
                hint="give the engine more `num_pages` or `kv_memory_bytes`",
            )

    def check_queue(self, num_running: int, num_waiting: int, retry_after_s: float) -> None:
        """Raise if one more would have to wait behind as many as may."""
        if self.max_waiting is None:
            return
        # Those that the next step may start do not count as waiting.
        num_waiting -= self.max_sequences - num_running
        if num_waiting >= self.max_waiting:
            raise QueueFull(
                f"{num_waiting} requests are waiting, as many as the engine lets wait; "
                f"try again in {retry_after_s:.0f} s",
                retry_after_s,
            )

    def longest(self, num_prompt_tokens: int, max_tokens: int | None) -> int:
        """How many tokens a request may come to, prompt and output."""
        longest = min(self.max_context_tokens, self.cache_tokens)
        return longest if max_tokens is None else min(longest, num_prompt_tokens + max_tokens)
