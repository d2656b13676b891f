"""Turns distributions of lengths into the requests that a server is asked to answer.

Prompts are made of short common words, drawn anew for each request, so that no prefix cache helps
unless a shared prefix is asked for. How many tokens a word takes differs from model to model:
`calibrate` asks the server, by its own count. Token ids need no counting, but must mean something
to the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ingot.bench.serve.lengths import Lengths

WORDS = (
    "time way day man thing life child world school state family group country problem hand part "
    "place case week company system program question work number night point home water room "
    "area money story fact month lot right study book eye job word business side kind head house "
    "service friend father power hour game line end member law car city name team minute idea body"
).split()

FIRST_ID = 16


@dataclass(frozen=True, slots=True)
class Workload:
    """What requests look like.

    prefix_tokens   so many tokens of each prompt are the same for all requests of a group
    prefix_groups   how many such groups there are; requests are dealt to them in turn
    cancel_share    this share of the requests is given up after a random part of its output
    token_ids       prompts are token ids, drawn below this number and not words; 0 for words
    """

    prompt_tokens: Lengths
    output_tokens: Lengths
    prefix_tokens: int = 0
    prefix_groups: int = 1
    cancel_share: float = 0.0
    token_ids: int = 0


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A prompt is a text or token ids. `cancel_after` pieces of output the client hangs up; None
    for a client that stays."""

    prompt: str | list[int]
    max_tokens: int
    cancel_after: int | None = None


def plan_requests(
    workload: Workload, seed: int, words_per_token: float
) -> Iterator[PlannedRequest]:
    """Endlessly many requests; the same seed gives the same ones."""
    rng = np.random.default_rng(seed)

    def make(tokens: int) -> str | list[int]:
        if workload.token_ids:
            return make_ids(rng, tokens, workload.token_ids)
        return make_text(rng, max(1, round(tokens * words_per_token)))

    prefixes = [
        make(workload.prefix_tokens) if workload.prefix_tokens else None
        for _ in range(workload.prefix_groups)
    ]
    number = 0
    while True:
        own_tokens = max(1, workload.prompt_tokens.draw(rng) - workload.prefix_tokens)
        max_tokens = workload.output_tokens.draw(rng)
        cancels = rng.random() < workload.cancel_share
        cancel_after = int(rng.integers(1, max_tokens + 1)) if cancels else None
        prompt = join(prefixes[number % len(prefixes)], make(own_tokens))
        yield PlannedRequest(prompt, max_tokens, cancel_after)
        number += 1


def join(prefix: str | list[int] | None, own: str | list[int]) -> str | list[int]:
    if isinstance(prefix, str) and isinstance(own, str):
        return f"{prefix} {own}"
    if isinstance(prefix, list) and isinstance(own, list):
        return prefix + own
    return own


def make_text(rng: np.random.Generator, num_words: int) -> str:
    return " ".join(WORDS[index] for index in rng.integers(0, len(WORDS), num_words))


def make_ids(rng: np.random.Generator, num_tokens: int, limit: int) -> list[int]:
    """Small ids are often special: they begin and end texts."""
    return [int(token) for token in rng.integers(min(FIRST_ID, limit - 1), limit, num_tokens)]
