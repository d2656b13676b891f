"""Turns the logits of a step into a token and its probability for each row that wants one."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING

from ingot.runtime.executor import Executor
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sampling import (
    Drawn,
    LogitRow,
    SamplingInputs,
    Wishes,
    build_sampling,
    find_wishes,
)
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
        masks = None if self._masker is None else self._masker.take()
        wishes, sampling = find_wishes(rows, masks), build_sampling(rows)
        if wishes is None:
            tokens = self._executor.step_and_sample(inputs, sampling)
            return [(token, None) for token in tokens]
        drawn = None
        if all(row.prompt_token is None for row in rows):
            drawn = self._executor.step_captured(inputs, sampling, wishes)
        if drawn is None:
            drawn = self._run_one_by_one(inputs, rows, sampling, wishes)
        return list(zip(drawn.tokens, drawn.logprobs, strict=True))

    def _run_one_by_one(
        self, inputs: StepInputs, rows: Seq[LogitRow], sampling: SamplingInputs, wishes: Wishes
    ) -> Drawn:
        logits = self._executor.step(inputs)
        kept = None if wishes.num_top is None else self._executor.keep(logits, wishes)
        if wishes.penalties is not None:
            self._executor.penalize(logits, wishes.penalties)
        if wishes.masks is not None:
            self._executor.mask(logits, wishes.masks())
        tokens = self._executor.sample(logits, sampling)
        if wishes.num_top is None:
            return Drawn(tokens, [None] * len(rows))
        known = [
            token if row.prompt_token is None else row.prompt_token
            for token, row in zip(tokens, rows, strict=True)
        ]
        return Drawn(tokens, self._executor.rank(kept, known, wishes))


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
