"""Turns rows of logits that want a token into the arrays of `penalize` and `sample`, and what comes
of them into tokens and probabilities."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ingot.runtime.draws import draw
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sampling_params import MAX_LOGPROBS
from ingot.runtime.sequence import Sequence
from ingot.runtime.token_table import TokenTable

if TYPE_CHECKING:
    from ingot.runtime.constraints.masks import Masks

Floats = NDArray[np.float32]
Int32s = NDArray[np.int32]

# Added to a logit so that its token can't be chosen. Not infinity: kernels compute exp of it.
FORBIDDEN = -1e30

# The fields of a row of `logprobs`: what a logit is less to be a log-probability, the logit of the
# chosen token, the largest logits in order, their tokens.
LOG_TOTAL, CHOSEN, TOP_LOGITS = 0, 1, 2
TOP_TOKENS = TOP_LOGITS + MAX_LOGPROBS
NUM_RANKED_FIELDS = TOP_TOKENS + MAX_LOGPROBS


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


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a step's rows ask for beside a token. `masks` waits for them, and is called once."""

    penalties: PenaltyInputs | None = None
    masks: Callable[[], Masks] | None = None
    num_top: Int32s | None = None  # of each row: how many likeliest tokens, -1 where nobody asks

    @property
    def changes_logits(self) -> bool:
        return self.penalties is not None or self.masks is not None

    @property
    def asked_rows(self) -> list[int]:
        """Those whose probabilities are asked for."""
        return [] if self.num_top is None else np.flatnonzero(self.num_top >= 0).tolist()


class Drawn(NamedTuple):
    """A token for each row of logits, and its probability where that was asked for."""

    tokens: list[int]
    logprobs: list[TokenLogprob | None]


def find_wishes(rows: Seq[LogitRow], masks: Callable[[], Masks] | None) -> Wishes | None:
    """None where the rows ask for nothing but tokens, which is the usual case."""
    penalties = build_penalties(rows)
    asked = [-1 if (number := _num_top(row)) is None else number for row in rows]
    num_top = np.array(asked, np.int32) if max(asked) >= 0 else None
    if penalties is None and masks is None and num_top is None:
        return None
    return Wishes(penalties, masks, num_top)


def _num_top(row: LogitRow) -> int | None:
    sequence = row.sequence
    if row.prompt_token is None:
        return sequence.num_top_logprobs
    return sequence.params.prompt_logprobs


def _find_changes(row: LogitRow) -> TokenTable | None:
    """The tokens of a row whose logits change, None if there are none."""
    sequence, params = row.sequence, row.sequence.params
    if row.prompt_token is not None:
        return None
    num_output_tokens = sequence.num_output_tokens + row.num_proposed
    is_early = num_output_tokens < params.min_tokens
    if not (is_early or params.has_penalties or params.logit_bias):
        return None
    if sequence.token_table is None:
        prompt = sequence.tokens[: sequence.num_prompt_tokens]
        sequence.token_table = TokenTable(params, prompt)
    table = sequence.token_table
    table.read(sequence.tokens)
    if is_early or row.num_proposed:
        ends = [(token, FORBIDDEN) for token in sequence.end_token_ids if is_early]
        table = table.copy_with(sequence.proposed[: row.num_proposed], ends)
    return table if len(table) else None


def build_penalties(rows: Seq[LogitRow]) -> PenaltyInputs | None:
    """None when no row's logits change, which is the usual case."""
    tables = [_find_changes(row) for row in rows]
    listed = [table for table in tables if table is not None]
    if not listed:
        return None
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([0 if table is None else len(table) for table in tables], out=offsets[1:])
    params = [row.sequence.params for row in rows]
    return PenaltyInputs(
        row_offsets=offsets,
        tokens=_join([table.tokens for table in listed], np.int32),
        output_counts=_join([table.output_counts for table in listed], np.int32),
        seen=_join([table.seen for table in listed], np.int32),
        bias=_join([table.bias for table in listed], np.float32),
        repetition=np.array([p.repetition_penalty for p in params], np.float32),
        presence=np.array([p.presence_penalty for p in params], np.float32),
        frequency=np.array([p.frequency_penalty for p in params], np.float32),
    )


def _join(columns: Seq[array[Any]], dtype: DTypeLike) -> NDArray[Any]:
    """A copy: an array that NumPy looks at can't grow."""
    return np.concatenate([np.frombuffer(column, dtype) for column in columns])


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


def rank_rows(
    kept: NDArray[np.float32], tokens: Seq[int], wishes: Wishes
) -> list[TokenLogprob | None]:
    """The probability of each row's token where it is asked for. `kept` are the rows that ask."""
    logprobs: list[TokenLogprob | None] = [None] * len(tokens)
    for logits, row in zip(kept, wishes.asked_rows, strict=True):
        assert wishes.num_top is not None
        logprobs[row] = token_logprob(logits, tokens[row], int(wishes.num_top[row]))
    return logprobs


def read_ranked(
    found: NDArray[np.float64], tokens: Seq[int], wishes: Wishes, vocab_size: int
) -> list[TokenLogprob | None]:
    """The same of what `logprobs` found in rows of logits."""
    logprobs: list[TokenLogprob | None] = [None] * len(tokens)
    for row in wishes.asked_rows:
        assert wishes.num_top is not None
        fields, num_top = found[row], min(int(wishes.num_top[row]), vocab_size)
        total = fields[LOG_TOTAL]
        top = (fields[TOP_LOGITS : TOP_LOGITS + num_top] - total).tolist()
        top_tokens = fields[TOP_TOKENS : TOP_TOKENS + num_top].astype(int).tolist()
        pairs = tuple(zip(top_tokens, top, strict=True))
        logprobs[row] = TokenLogprob(tokens[row], float(fields[CHOSEN] - total), pairs)
    return logprobs
