"""Turns a checked request into its outputs, and says which of their chunks may go out when."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ingot.runtime.draws import draw_key
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk
from ingot.runtime.pooling import Pooling
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.sequence import Sequence
from ingot.runtime.text_stream import Decode, TextStream

if TYPE_CHECKING:
    from ingot.runtime.constraints.matcher import Matcher


@dataclass(slots=True, eq=False)
class Request:
    """`unfinished` are the outputs to come, by their index. With `best_of` no chunk can be given
    before the last token of all outputs is known: `held` has them all."""

    request_id: int
    params: SamplingParams
    deadline_s: float | None
    outputs: list[Sequence]
    unfinished: dict[int, Sequence] = field(default_factory=dict)
    held: list[Chunk] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unfinished = {sequence.index: sequence for sequence in self.outputs}

    @property
    def is_ranked(self) -> bool:
        return self.params.num_outputs > self.params.n

    def give(self, chunk: Chunk) -> list[Chunk]:
        """A chunk of one of the outputs comes in; what may go out is returned."""
        if chunk.finish_reason is not None:
            del self.unfinished[chunk.index]
            if not self.unfinished:
                chunk = replace(chunk, is_last=True)
        if not self.is_ranked:
            return [chunk]
        self.held.append(chunk)
        return self._choose_best() if chunk.is_last else []

    def _choose_best(self) -> list[Chunk]:
        """The chunks of the likeliest outputs, numbered by how likely they are."""
        best = sorted(self.outputs, key=_mean_logprob, reverse=True)[: self.params.n]
        places = {sequence.index: place for place, sequence in enumerate(best)}
        chosen = [chunk for chunk in self.held if chunk.index in places]
        has_logprobs = self.params.logprobs is not None
        return [
            replace(
                chunk,
                index=places[chunk.index],
                logprobs=chunk.logprobs if has_logprobs else (),
                is_last=chunk is chosen[-1],
            )
            for chunk in chosen
        ]


def _mean_logprob(sequence: Sequence) -> float:
    return sequence.sum_logprobs / max(1, sequence.num_output_tokens)


def create_request(
    request_id: int,
    prompt: Seq[int],
    params: SamplingParams,
    options: RequestOptions,
    *,
    limits: Limits,
    decode: Decode,
    eos_token_ids: frozenset[int],
    now_s: float,
    matcher: Matcher | None = None,
) -> Request:
    """The outputs of a checked request. The first reads the prompt; the others fork from it."""
    eos = frozenset() if params.ignore_eos else eos_token_ids
    is_ranked = params.num_outputs > params.n
    max_tokens = params.max_tokens if options.pooling is None else 0
    tokens = [int(token) for token in prompt]
    outputs = [
        Sequence(
            request_id=request_id,
            index=index,
            tokens=list(tokens),
            num_prompt_tokens=len(tokens),
            params=params,
            max_total_tokens=limits.longest(len(tokens), max_tokens),
            text=TextStream(decode, tokens, params.stop_strings),
            draw_key=draw_key(params.seed, index),
            end_token_ids=eos | frozenset(params.stop_token_ids),
            priority=options.priority,
            num_top_logprobs=0 if is_ranked and params.logprobs is None else params.logprobs,
            shares_pages=options.prefix_cache,
            cache_salt=options.cache_salt,
            matcher=None if matcher is None else matcher.copy(),
            pooling=None if options.pooling is None else Pooling(options.pooling, len(tokens)),
            arrival_s=now_s,
        )
        for index in range(params.num_outputs)
    ]
    outputs[0].forks = outputs[1:]
    deadline_s = None if options.timeout_s is None else now_s + options.timeout_s
    return Request(request_id, params, deadline_s, outputs)
