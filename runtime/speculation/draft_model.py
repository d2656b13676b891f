"""Turns a second, smaller model of the same vocabulary into guesses: what it would say itself.

The draft model has its own executor and pages. Its copy of a sequence follows the accepted tokens:
where they part from what it guessed, its cached tokens end. All sequences of a batch are guessed
for together, one step of the draft model for each place.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ingot.runtime.executor import Executor
from ingot.runtime.kv import PagePool
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.scheduler import ScheduledChunk
from ingot.runtime.sequence import Sequence
from ingot.runtime.speculation.proposer import Wish
from ingot.runtime.step_inputs import build_step_inputs
from ingot.runtime.text_stream import TextStream

WARM_UP_STEPS = 5  # at least, and of short ones more: the machine may be busy just then
MAX_WARM_UP_STEPS = 30
WARM_UP_S = 0.25
MAX_BEHIND = 8  # tokens that are read along with the first guess


@lru_cache(maxsize=256)
def greedy(num_rows: int) -> SamplingInputs:
    """The likeliest token of each row. Nobody writes to its arrays."""
    zeros = np.zeros(num_rows, np.float32)
    return SamplingInputs(
        temperature=zeros,
        top_k=np.zeros(num_rows, np.int32),
        top_p=np.ones(num_rows, np.float32),
        min_p=zeros,
        uniform=zeros,
    )


@dataclass(slots=True)
class Mirror:
    """The draft model's copy of a sequence. The first `num_agreed` tokens are the sequence's."""

    copy: Sequence
    num_agreed: int = 0

    def follow(self, tokens: Seq[int]) -> None:
        """Take over the sequence's tokens; what was guessed right stays cached."""
        mine = self.copy.tokens
        agreed, longest = self.num_agreed, min(len(mine), len(tokens))
        while agreed < longest and mine[agreed] == tokens[agreed]:
            agreed += 1
        mine[agreed:] = tokens[agreed:]
        # The last token runs again in any case: its logits are wanted.
        self.copy.num_cached_tokens = min(self.copy.num_cached_tokens, agreed, len(mine) - 1)
        self.num_agreed = len(tokens)


def _mirror() -> Mirror:
    nothing = TextStream(lambda tokens: "")
    return Mirror(
        Sequence(
            request_id=0,
            tokens=[],
            num_prompt_tokens=0,
            params=SamplingParams(),
            max_total_tokens=0,
            text=nothing,
            draw_key=0,
            end_token_ids=frozenset(),
        )
    )


@dataclass(slots=True)
class DraftModel:
    """A sequence that is far ahead of its copy gets no guesses before the draft model has read what
    it missed, `max_step_tokens` tokens at a time."""

    executor: Executor
    pool: PagePool
    vocab_size: int  # of the model that verifies
    max_context_tokens: int
    max_step_tokens: int
    guess_s: float = 1e-9
    _mirrors: dict[Sequence, Mirror] = field(default_factory=dict)

    def propose(self, wishes: Seq[Wish]) -> list[list[int]]:
        guesses: list[list[int]] = [[] for _ in wishes]
        active = self._catch_up(wishes, self._prepare(wishes))
        while active:
            copies = [self._mirrors[wishes[place].sequence].copy for place in active]
            tokens = self._step(copies)
            going_on = []
            for place, copy, token in zip(active, copies, tokens, strict=True):
                if token is None or token >= self.vocab_size:
                    continue
                copy.tokens.append(token)
                guesses[place].append(token)
                if len(guesses[place]) < wishes[place].num_tokens:
                    going_on.append(place)
            active = going_on
        return guesses

    def _prepare(self, wishes: Seq[Wish]) -> list[int]:
        """Bring the copies up to date and give them pages. Returns the wishes that can be met."""
        ready = []
        for place, wish in enumerate(wishes):
            if wish.num_tokens == 0:
                continue
            mirror = self._mirrors.get(wish.sequence)
            if mirror is None:
                mirror = self._mirrors[wish.sequence] = _mirror()
            mirror.follow(wish.sequence.tokens)
            copy = mirror.copy
            num_tokens = len(copy.tokens) + wish.num_tokens
            if num_tokens > self.max_context_tokens:
                continue
            missing = self.pool.pages_for(num_tokens) - len(copy.pages)
            if missing > 0:
                if not self.pool.can_allocate(missing):
                    continue
                copy.pages.extend(self.pool.allocate(missing))
            ready.append(place)
        return ready

    def _catch_up(self, wishes: Seq[Wish], ready: list[int]) -> list[int]:
        """Read what was missed; returns the wishes whose copies were not behind."""
        copies = {place: self._mirrors[wishes[place].sequence].copy for place in ready}
        behind = [copy for copy in copies.values() if copy.num_uncached_tokens > MAX_BEHIND]
        if behind:
            self._step(behind)
        return [place for place in ready if copies[place] not in behind]

    def _step(self, copies: Seq[Sequence]) -> list[int | None]:
        """The likeliest next token of each; None where there was no room to read all before it."""
        chunks: list[ScheduledChunk] = []
        complete: list[Sequence] = []
        rows: list[int] = []
        num_tokens = 0
        for copy in copies:
            chunk = ScheduledChunk(
                copy, min(self.max_step_tokens - num_tokens, copy.num_uncached_tokens)
            )
            if not chunk.num_tokens:
                break
            chunks.append(chunk)
            num_tokens += chunk.num_tokens
            if chunk.is_last:
                complete.append(copy)
                rows.append(num_tokens - 1)
        inputs = build_step_inputs(chunks, self.pool.page_size_tokens, rows)
        for chunk in chunks:
            chunk.sequence.num_cached_tokens += chunk.num_tokens
        if not complete:
            self.executor.step(inputs)
            return [None] * len(copies)
        tokens = self.executor.step_and_sample(inputs, greedy(len(complete)))
        found = dict(zip(complete, tokens, strict=True))
        return [found.get(copy) for copy in copies]

    def time_guess(self, clock: Callable[[], float]) -> None:
        """Measure the least that a guess takes, on a page that nobody has yet."""
        copy = _mirror().copy
        copy.tokens = [0]
        copy.pages.extend(self.pool.allocate(1))
        seconds: list[float] = []
        while len(seconds) < WARM_UP_STEPS or (
            len(seconds) < MAX_WARM_UP_STEPS and sum(seconds) < WARM_UP_S
        ):
            copy.num_cached_tokens = 0
            start_s = clock()
            self._step([copy])
            seconds.append(clock() - start_s)
        self.pool.free(copy.pages)
        self.guess_s = min(seconds)

    def forget(self, sequence: Sequence) -> None:
        mirror = self._mirrors.pop(sequence, None)
        if mirror is not None:
            self.pool.free(mirror.copy.pages)

    def check_integrity(self) -> None:
        self.pool.check_integrity([mirror.copy.pages for mirror in self._mirrors.values()])
