"""Turns one request's penalties and biases into a table of the tokens whose logits change.

The table grows with the output, a token at a time: to make it anew for each step would take as long
as a step of a small model when the prompt is long.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from ingot.runtime.sampling_params import SamplingParams


class TokenTable:
    """Columns of `penalize`, one row for each token that is listed."""

    def __init__(self, params: SamplingParams, prompt: Sequence[int]) -> None:
        self._lists_output = params.has_penalties
        self._places: dict[int, int] = {}
        self.tokens = array("i")
        self.output_counts = array("i")
        self.seen = array("i")
        self.bias = array("f")
        self._num_read = len(prompt)
        if params.repetition_penalty != 1.0:
            for token in prompt:
                self.seen[self._place(token)] = 1
        self._add_bias(params.logit_bias.items())

    def __len__(self) -> int:
        return len(self.tokens)

    def read(self, tokens: Sequence[int]) -> None:
        """Take those of prompt and output that are new."""
        self._count(tokens[self._num_read :])
        self._num_read = len(tokens)

    def copy_with(self, tokens: Sequence[int], biases: Iterable[tuple[int, float]]) -> TokenTable:
        """Another table, with more output and with these biases instead of others."""
        other = object.__new__(TokenTable)
        other._lists_output = self._lists_output
        other._places = dict(self._places)
        other.tokens = self.tokens[:]
        other.output_counts = self.output_counts[:]
        other.seen = self.seen[:]
        other.bias = self.bias[:]
        other._count(tokens)
        other._add_bias(biases)
        return other

    def _count(self, tokens: Sequence[int]) -> None:
        if self._lists_output:
            for token in tokens:
                place = self._place(token)
                self.output_counts[place] += 1
                self.seen[place] = 1

    def _add_bias(self, biases: Iterable[tuple[int, float]]) -> None:
        for token, bias in biases:
            self.bias[self._place(token)] = bias

    def _place(self, token: int) -> int:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self.tokens):
            self.tokens.append(token)
            self.output_counts.append(0)
            self.seen.append(0)
            self.bias.append(0.0)
        return place
