"""One output of a request while it runs: plain data that scheduler, sampler and engine share."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingot.runtime.outputs import RequestStats, TokenLogprob
from ingot.runtime.pooling import Pooling
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.text_stream import TextStream
from ingot.runtime.token_table import TokenTable

if TYPE_CHECKING:
    from ingot.runtime.constraints.matcher import Matcher


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` is prompt and output; the first `num_cached_tokens` of them are in `pages`.

    `proposed` are tokens that may follow, to be verified by the next step. `forks` are the other
    outputs of the same prompt, until it is read.
    """

    request_id: int
    tokens: list[int]
    num_prompt_tokens: int
    params: SamplingParams
    max_total_tokens: int
    text: TextStream
    draw_key: int
    end_token_ids: frozenset[int]
    index: int = 0
    priority: int = 0
    num_top_logprobs: int | None = None  # to be computed at each place of the output
    shares_pages: bool = True
    cache_salt: str = ""
    forks: list[Sequence] = field(default_factory=list)
    matcher: Matcher | None = None  # where the output stands in its constraint
    pooling: Pooling | None = None  # the prompt's embedding is wanted, and no output

    arrival_s: float = 0.0
    start_s: float | None = None
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    longest_stall_s: float = 0.0
    longest_step_s: float = 0.0

    pages: array[int] = field(default_factory=lambda: array("i"))
    page_hashes: list[bytes] = field(default_factory=list)  # of all full pages of tokens
    num_cached_tokens: int = 0
    num_shared_tokens: int = 0  # at the start, in pages found in the cache: not to be written
    proposed: list[int] = field(default_factory=list)
    token_table: TokenTable | None = None  # made by the first step that needs it
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)  # from the second token on
    sum_logprobs: float = 0.0

    num_preemptions: int = 0
    num_prefix_hit_tokens: int = 0
    num_proposed_tokens: int = 0
    num_accepted_tokens: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """Who goes first: higher priority, then the older request."""
        return (-self.priority, self.request_id, self.index)

    @property
    def num_uncached_tokens(self) -> int:
        return len(self.tokens) - self.num_cached_tokens

    @property
    def num_output_tokens(self) -> int:
        return len(self.tokens) - self.num_prompt_tokens

    @property
    def num_missing_prompt_logprobs(self) -> int:
        """How many of the prompt's tokens still need the logits before them."""
        if self.params.prompt_logprobs is None:
            return 0
        return self.num_prompt_tokens - 1 - len(self.prompt_logprobs)

    @property
    def needs_all_rows(self) -> bool:
        """Whether each token of the prompt must be computed, cached or not: what is wanted of it
        is no longer known when its keys and values are."""
        if self.pooling is not None:
            return self.pooling.needs_all_rows
        return self.num_missing_prompt_logprobs > 0


def measure(sequence: Sequence, now_s: float) -> RequestStats:
    """What an output that ends now has taken."""
    count = sequence.num_output_tokens
    arrival_s, first_s, last_s = sequence.arrival_s, sequence.first_token_s, sequence.last_token_s
    start_s = now_s if sequence.start_s is None else sequence.start_s
    return RequestStats(
        num_prompt_tokens=sequence.num_prompt_tokens,
        num_output_tokens=count,
        num_preemptions=sequence.num_preemptions,
        ttft_s=first_s - arrival_s if count else 0.0,
        tpot_s=(last_s - first_s) / (count - 1) if count > 1 else 0.0,
        total_s=now_s - arrival_s,
        queue_s=start_s - arrival_s,
        prefill_s=(first_s if count else now_s) - start_s,
        decode_s=now_s - first_s if count else 0.0,
        num_prefix_hit_tokens=sequence.num_prefix_hit_tokens,
        num_proposed_tokens=sequence.num_proposed_tokens,
        num_accepted_tokens=sequence.num_accepted_tokens,
        longest_stall_s=sequence.longest_stall_s,
        longest_step_s=sequence.longest_step_s,
    )
