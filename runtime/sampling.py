"""Turns rows of logits that want a token into the arrays of `penalize` and `sample`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.draws import draw
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sequence import Sequence

Floats = NDArray[np.float32]
Int32s = NDArray[np.int32]

# Added to a logit so that its token can't be chosen. Not infinity: kernels compute exp of it.
FORBIDDEN = -1e30


class LogitRow(NamedTuple):
    """The place after a sequence's tokens and the first `num_proposed` of its proposed ones, where
    a token is sampled; or, with `prompt_token`, the place of that token of its prompt."""

    sequence: Sequence
    num_proposed: int = 0
    prompt_token: int | None = None


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


@dataclass(slots=True)
class _Changes:
    """What one row's penalties are made of: tokens with what is added to their logits."""

    bias: dict[int, float]
    counts: Counter[int]
    seen: set[int]


_NO_CHANGES = _Changes({}, Counter(), set())


def _changes(row: LogitRow) -> _Changes:
    sequence, params = row.sequence, row.sequence.params
    if row.prompt_token is not None:
        return _NO_CHANGES
    num_output_tokens = sequence.num_output_tokens + row.num_proposed
    forbidden = sequence.end_token_ids if num_output_tokens < params.min_tokens else frozenset()
    if not (params.has_penalties or params.logit_bias or forbidden):
        return _NO_CHANGES
    counts, seen = sequence.output_counts, set[int]()
    proposed = sequence.proposed[: row.num_proposed]
    if proposed:
        counts = counts + Counter(proposed)
    tokens: dict[int, float] = {}
    if params.repetition_penalty != 1.0:
        seen = {*sequence.tokens, *proposed}
        tokens = dict.fromkeys(seen, 0.0)
    elif params.has_penalties:
        tokens = dict.fromkeys(counts, 0.0)
    tokens |= params.logit_bias
    tokens |= dict.fromkeys(forbidden, FORBIDDEN)
    return _Changes(tokens, counts, seen)


def build_penalties(rows: Seq[LogitRow]) -> PenaltyInputs | None:
    """None when no row's logits change, which is the usual case."""
    changes = [_changes(row) for row in rows]
    if not any(change.bias for change in changes):
        return None
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(change.bias) for change in changes], out=offsets[1:])
    each = [(change, token) for change in changes for token in change.bias]
    params = [row.sequence.params for row in rows]
    return PenaltyInputs(
        row_offsets=offsets,
        tokens=np.array([token for _, token in each], np.int32),
        output_counts=np.array([change.counts[token] for change, token in each], np.int32),
        seen=np.array([token in change.seen for change, token in each], np.int32),
        bias=np.array([change.bias[token] for change, token in each], np.float32),
        repetition=np.array([p.repetition_penalty for p in params], np.float32),
        presence=np.array([p.presence_penalty for p in params], np.float32),
        frequency=np.array([p.frequency_penalty for p in params], np.float32),
    )


def build_sampling(rows: Seq[LogitRow]) -> SamplingInputs:
    """Each row draws by its own key and place, so that its choice depends on nothing else in the
    batch. Rows of the prompt get a token too, which nobody looks at."""
    params = [row.sequence.params for row in rows]
    return SamplingInputs(
        temperature=np.array([p.temperature for p in params], np.float32),
        top_k=np.array([p.top_k for p in params], np.int32),
        top_p=np.array([p.top_p for p in params], np.float32),
        min_p=np.array([p.min_p for p in params], np.float32),
        uniform=np.array([_draw(row) for row in rows], np.float32),
    )


def _draw(row: LogitRow) -> float:
    sequence = row.sequence
    if sequence.params.temperature == 0:
        return 0.0
    return draw(sequence.draw_key, sequence.num_output_tokens + row.num_proposed)


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
