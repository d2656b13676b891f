"""Turns the logits of a step into a token and its probability for each row that wants one."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING

from ingot.runtime.executor import Executor
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sampling import LogitRow, build_penalties, build_sampling, token_logprob
from ingot.runtime.scheduler import ScheduledChunk
from ingot.runtime.step_inputs import StepInputs

if TYPE_CHECKING:
    from ingot.runtime.constraints.masker import Masker

# A token and its probability, if that was asked for.
Choice = tuple[int, TokenLogprob | None]


class Sampler:
    """Penalties, masks, then the choice; probabilities are taken before all of them."""

    def __init__(self, executor: Executor, masker: Masker | None = None) -> None:
        self._executor = executor
        self._masker = masker

    def start(self, rows: Seq[LogitRow]) -> None:
        """Do what needs no logits; the step runs meanwhile."""
        if self._masker is not None:
            self._masker.start(rows)

    def run(self, inputs: StepInputs, rows: Seq[LogitRow]) -> list[Choice]:
        """Run the step. One token for each row of logits, and the probability of the row's token
        where it was asked for: of the prompt's for a row of the prompt, else of the sampled one."""
        asked = [
            (place, num_top)
            for place, row in enumerate(rows)
            if (num_top := _num_top(row)) is not None
        ]
        penalties = build_penalties(rows)
        has_masks = self._masker is not None and self._masker.has_masks
        if not asked and penalties is None and not has_masks:
            tokens = self._executor.step_and_sample(inputs, build_sampling(rows))
            return [(token, None) for token in tokens]
        logits = self._executor.step(inputs)
        # Copied first: penalties change the logits in place.
        raw = [self._executor.read_row(logits, place) for place, _ in asked]
        if penalties is not None:
            self._executor.penalize(logits, penalties)
        if self._masker is not None:
            self._masker.apply(logits, self._executor)
        tokens = self._executor.sample(logits, build_sampling(rows))
        logprobs: list[TokenLogprob | None] = [None] * len(rows)
        for row, (place, num_top) in zip(raw, asked, strict=True):
            known = rows[place].prompt_token
            logprobs[place] = token_logprob(row, tokens[place] if known is None else known, num_top)
        return list(zip(tokens, logprobs, strict=True))


def _num_top(row: LogitRow) -> int | None:
    sequence = row.sequence
    if row.prompt_token is None:
        return sequence.num_top_logprobs
    return sequence.params.prompt_logprobs


def choose_rows(chunks: Seq[ScheduledChunk]) -> tuple[list[LogitRow], list[int]]:
    """The rows of a step that want logits, and which of its tokens each comes after."""
    rows: list[LogitRow] = []
    places: list[int] = []
    end = 0
    for chunk in chunks:
        sequence = chunk.sequence
        start, end = end, end + chunk.num_tokens
        for offset in chunk.prompt_rows:
            token = sequence.tokens[sequence.num_cached_tokens + offset + 1]
            rows.append(LogitRow(sequence, prompt_token=token))
            places.append(start + offset)
        if chunk.is_last:
            first = end - 1 - chunk.num_proposed
            for num_proposed in range(1 + chunk.num_proposed):
                rows.append(LogitRow(sequence, num_proposed))
                places.append(first + num_proposed)
            # All outputs of a prompt sample from the same logits.
            rows += [LogitRow(fork) for fork in sequence.forks]
            places += [end - 1] * len(sequence.forks)
    return rows, places


def accept(candidates: list[Choice], proposed: Seq[int]) -> list[Choice]:
    """Sampled tokens up to the first that was not proposed: the rows after it followed another.

    Each was sampled from the model's own distribution, with the draw of its own place, so they are
    the tokens that would have come one by one.
    """
    count = 0
    while count < len(proposed) and candidates[count][0] == proposed[count]:
        count += 1
    return candidates[: count + 1]
