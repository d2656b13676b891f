"""Turns a request's wishes into checked values: how to choose tokens, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from ingot.errors import RequestError
from ingot.runtime.constraints.kinds import Constraint

MAX_STOP_STRINGS = 16
MAX_LOGPROBS = 20
MAX_OUTPUTS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Everything but the prompt. The defaults are greedy decoding to the end of the context.

    temperature          0 takes the likeliest token; above it, the distribution is sampled
    top_k                only the k likeliest tokens, 0 for all
    top_p                only the likeliest tokens whose probabilities add up to p, 1 for all
    min_p                only tokens at least p times as likely as the likeliest, 0 for all
    repetition_penalty   divides (multiplies) positive (negative) logits of tokens seen before
    presence_penalty     subtracted from the logits of tokens in the output
    frequency_penalty    the same, times how often they occur there
    logit_bias           added to the logits of these tokens
    seed                 the same seed gives the same choices, whatever else runs in the batch
    stop                 strings that end the output; they are not part of it
    stop_token_ids       tokens that end the output, beside the model's own
    max_tokens           at most this many tokens, None for as many as the context holds
    min_tokens           no end before this many tokens
    ignore_eos           go on after the model's own end tokens
    logprobs             how many of the likeliest tokens to report at each place (None for none,
                         0 for the chosen token only), before penalties and temperature
    prompt_logprobs      the same for the prompt's own tokens, from the second on
    n                    how many outputs to make of the prompt; they share its pages
    best_of              make so many outputs and give the n whose tokens are likeliest on average
    constraint           what the output must look like: a JsonSchema, a Regex, ...
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    n: int = 1
    best_of: int | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        self._check_number("temperature", 0, math.inf)
        self._check_number("top_k", 0, 2**31 - 1, whole=True)
        self._check_number("top_p", 0, 1, above=True)
        self._check_number("min_p", 0, 1)
        self._check_number("repetition_penalty", 0, math.inf, above=True)
        self._check_number("presence_penalty", -math.inf, math.inf)
        self._check_number("frequency_penalty", -math.inf, math.inf)
        if self.seed is not None:
            self._check_number("seed", 0, 2**64 - 1, whole=True)
        if self.max_tokens is not None:
            self._check_number("max_tokens", 1, 2**31 - 1, whole=True)
        self._check_number("min_tokens", 0, 2**31 - 1, whole=True)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens is {self.min_tokens}, more than max_tokens, {self.max_tokens}"
            )
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                self._check_number(name, 0, MAX_LOGPROBS, whole=True)
        self._check_number("n", 1, MAX_OUTPUTS, whole=True)
        if self.best_of is not None:
            self._check_number("best_of", self.n, MAX_OUTPUTS, whole=True)
        if self.constraint is not None:
            self._check_constraint()
        self._check_stops(stop)
        for token, bias in self.logit_bias.items():
            if not _is_whole(token) or not _is_finite(bias):
                raise RequestError(
                    f"logit_bias has {token!r}: {bias!r}; it maps token ids to finite numbers"
                )

    def _check_number(
        self, name: str, low: float, high: float, *, above: bool = False, whole: bool = False
    ) -> None:
        value = getattr(self, name)
        kind_fits = _is_whole(value) if whole else _is_finite(value)
        if kind_fits and low <= value <= high and not (above and value == low):
            return
        kind = "a whole number" if whole else "a finite number"
        raise RequestError(f"{name} is {value!r}; it is {kind}{_range(low, high, above=above)}")

    def _check_constraint(self) -> None:
        if not isinstance(self.constraint, Constraint):
            raise RequestError(
                f"constraint is {self.constraint!r}; it is one of "
                + ", ".join(kind.__name__ for kind in get_args(Constraint))
            )
        if self.ignore_eos:
            raise RequestError("ignore_eos is set with a constraint, which ends the output")

    def _check_stops(self, stop: tuple[str, ...]) -> None:
        if len(stop) > MAX_STOP_STRINGS:
            raise RequestError(f"stop has {len(stop)} strings; at most {MAX_STOP_STRINGS} are kept")
        for text in stop:
            if not isinstance(text, str) or not text:
                raise RequestError(f"stop has {text!r}; it holds strings that are not empty")
        for token in self.stop_token_ids:
            if not _is_whole(token):
                raise RequestError(f"stop_token_ids has {token!r}; it holds token ids")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return tuple(self.stop)

    @property
    def num_outputs(self) -> int:
        """How many outputs are made, whether they are given or not."""
        return self.best_of or self.n

    @property
    def has_penalties(self) -> bool:
        return bool(
            self.repetition_penalty != 1.0 or self.presence_penalty or self.frequency_penalty
        )

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise if a token id is not one of the model's."""
        for name in ("logit_bias", "stop_token_ids"):
            for token in getattr(self, name):
                if not 0 <= token < vocab_size:
                    raise RequestError(
                        f"{name} has token {token}; the model's tokens are 0 to {vocab_size - 1}"
                    )


def _range(low: float, high: float, *, above: bool) -> str:
    """The numbers that are allowed, in words that follow "a number"."""
    if low == -math.inf:
        return ""
    if above:
        return f" above {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
    return f" of at least {low:g}" if high == math.inf else f" from {low:g} to {high:.15g}"


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
