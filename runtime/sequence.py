"""One request while it runs: plain data that the scheduler, the sampler and the engine share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.text_stream import TextStream


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` is prompt and output; the first `num_cached_tokens` of them are in `pages`."""

    request_id: int
    tokens: list[int]
    num_prompt_tokens: int
    params: SamplingParams
    max_total_tokens: int
    text: TextStream
    random: np.random.Generator
    end_token_ids: frozenset[int]
    arrival_s: float = 0.0
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    pages: list[int] = field(default_factory=list)
    num_cached_tokens: int = 0
    num_preemptions: int = 0
    output_counts: Counter[int] = field(default_factory=Counter)

    @property
    def num_uncached_tokens(self) -> int:
        return len(self.tokens) - self.num_cached_tokens

    @property
    def num_output_tokens(self) -> int:
        return len(self.tokens) - self.num_prompt_tokens

    def append(self, token: int) -> None:
        self.tokens.append(token)
        self.output_counts[token] += 1
