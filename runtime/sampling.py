"""Turns sequences that want a token into the arrays of `penalize` and `sample`, and log-softmax."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sequence import Sequence

Floats = NDArray[np.float32]
Int32s = NDArray[np.int32]

# Added to a logit so that its token can't be chosen. Not infinity: kernels compute exp of it.
FORBIDDEN = -1e30


@dataclass(frozen=True, slots=True)
class PenaltyInputs:
    """The arguments of `penalize` after the logits, in order: row r's tokens are
    [row_offsets[r], row_offsets[r + 1])."""

    row_offsets: Int32s
    tokens: Int32s
    output_counts: Int32s
    seen: Int32s
    bias: Floats
    repetition: Floats
    presence: Floats
    frequency: Floats


@dataclass(frozen=True, slots=True)
class SamplingInputs:
    """The arguments of `sample` after the logits, in order; all of one length."""

    temperature: Floats
    top_k: Int32s
    top_p: Floats
    min_p: Floats
    uniform: Floats


def _forbidden_tokens(sequence: Sequence) -> frozenset[int]:
    """Tokens that would end the output before `min_tokens`."""
    if sequence.num_output_tokens < sequence.params.min_tokens:
        return sequence.end_token_ids
    return frozenset()


def _row_tokens(sequence: Sequence) -> dict[int, float]:
    """The tokens whose logits change, with what is added to each."""
    params = sequence.params
    tokens: dict[int, float] = {}
    if params.repetition_penalty != 1.0:
        tokens = dict.fromkeys(sequence.tokens, 0.0)
    elif params.presence_penalty or params.frequency_penalty:
        tokens = dict.fromkeys(sequence.output_counts, 0.0)
    tokens |= params.logit_bias
    tokens |= dict.fromkeys(_forbidden_tokens(sequence), FORBIDDEN)
    return tokens


def build_penalties(sequences: Seq[Sequence]) -> PenaltyInputs | None:
    """None when no row's logits change, which is the usual case."""
    rows = [_row_tokens(sequence) for sequence in sequences]
    if not any(rows):
        return None
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    counts = [s.output_counts[t] for s, row in zip(sequences, rows, strict=True) for t in row]
    seen = []
    for sequence, row in zip(sequences, rows, strict=True):
        known = set(sequence.tokens) if row else set()
        seen += [int(token in known) for token in row]
    return PenaltyInputs(
        row_offsets=offsets,
        tokens=np.array([token for row in rows for token in row], np.int32),
        output_counts=np.array(counts, np.int32),
        seen=np.array(seen, np.int32),
        bias=np.array([bias for row in rows for bias in row.values()], np.float32),
        repetition=np.array([s.params.repetition_penalty for s in sequences], np.float32),
        presence=np.array([s.params.presence_penalty for s in sequences], np.float32),
        frequency=np.array([s.params.frequency_penalty for s in sequences], np.float32),
    )


def build_sampling(sequences: Seq[Sequence]) -> SamplingInputs:
    """Draws one number from each sequence's own generator, so that its choices do not depend on
    what else is in the batch."""
    return SamplingInputs(
        temperature=np.array([s.params.temperature for s in sequences], np.float32),
        top_k=np.array([s.params.top_k for s in sequences], np.int32),
        top_p=np.array([s.params.top_p for s in sequences], np.float32),
        min_p=np.array([s.params.min_p for s in sequences], np.float32),
        # Drawn as float32: a float64 just below 1 would round to 1.
        uniform=np.array([s.random.random(dtype=np.float32) for s in sequences], np.float32),
    )


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


def token_logprob(logits: NDArray[np.float32], token: int, num_top: int) -> TokenLogprob:
    """`logits` are one row, as the model gave them."""
    logprobs = log_softmax(logits)
    num_top = min(num_top, logprobs.size)
    top = np.argpartition(-logprobs, num_top - 1)[:num_top] if num_top else np.array([], int)
    ordered = sorted(top.tolist(), key=lambda t: (-logprobs[t], t))
    pairs = tuple((t, float(logprobs[t])) for t in ordered)
    return TokenLogprob(token, float(logprobs[token]), pairs)
