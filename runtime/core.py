"""Turns token prompts into chunks of output: the loop of admit, schedule, run, sample, commit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any

import numpy as np

from ingot.errors import QueueFull
from ingot.runtime.engine_stats import Counters, EngineStats, PageState
from ingot.runtime.executor import Executor
from ingot.runtime.kv import PagePool
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk, FinishReason, RequestStats, TokenLogprob
from ingot.runtime.pace import Pace
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling import build_penalties, build_sampling, token_logprob
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.scheduler import Scheduler
from ingot.runtime.sequence import Sequence
from ingot.runtime.step_inputs import build_step_inputs
from ingot.runtime.text_stream import Decode, TextStream


class EngineCore:
    """Token prompts in, chunks out. Not for two threads at the same time."""

    def __init__(
        self,
        executor: Executor,
        pool: PagePool,
        limits: Limits,
        *,
        decode: Decode,
        eos_token_ids: frozenset[int],
        clock: Callable[[], float],
    ) -> None:
        self.executor = executor
        self.pool = pool
        self.limits = limits
        self.counters = Counters()
        self.scheduler = Scheduler(
            pool, max_sequences=limits.max_sequences, max_step_tokens=limits.max_step_tokens
        )
        self._decode = decode
        self._eos_token_ids = eos_token_ids
        self._clock = clock
        self._ids = itertools.count()
        self._pace = Pace()
        self._sequences: dict[int, Sequence] = {}

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def step(self) -> list[Chunk]:
        """Run one step of the model over all that fits, and say what came of it."""
        schedule = self.scheduler.schedule()
        self.counters.num_preemptions += len(schedule.preempted)
        if not schedule.chunks:
            return []
        inputs = build_step_inputs(schedule.chunks, self.pool.page_size_tokens)
        logits = self.executor.step(inputs)
        ready = [chunk.sequence for chunk in schedule.chunks if chunk.is_last]
        for chunk in schedule.chunks:
            chunk.sequence.num_cached_tokens += chunk.num_tokens
            self.counters.num_prefill_tokens += chunk.num_tokens if chunk.num_tokens > 1 else 0
        self.counters.num_steps += 1
        sampled = self._sample(logits, ready)
        return [self._commit(*result) for result in zip(ready, *sampled, strict=True)]

    def add(
        self, prompt: Seq[int], params: SamplingParams, options: RequestOptions | None = None
    ) -> int:
        """Check a request and let it wait for its turn."""
        self.limits.check(prompt, params)
        self._check_queue()
        request_id = next(self._ids)
        eos = frozenset() if params.ignore_eos else self._eos_token_ids
        sequence = Sequence(
            request_id=request_id,
            tokens=[int(token) for token in prompt],
            num_prompt_tokens=len(prompt),
            params=params,
            max_total_tokens=self.limits.longest(len(prompt), params.max_tokens),
            text=TextStream(self._decode, prompt, params.stop_strings),
            random=np.random.Generator(np.random.PCG64(params.seed)),
            end_token_ids=eos | frozenset(params.stop_token_ids),
            arrival_s=self._clock(),
        )
        self._sequences[request_id] = sequence
        self.scheduler.add(sequence)
        self.counters.num_requests += 1
        self.counters.num_prompt_tokens += len(prompt)
        return request_id

    def abort(self, request_id: int) -> Chunk | None:
        """Stop a request; None if there is no such request (any more)."""
        sequence = self._sequences.get(request_id)
        if sequence is None:
            return None
        return self._finish(sequence, "abort", Chunk(request_id, sequence.text.finish(), ()))

    def abort_all(self) -> list[Chunk]:
        chunks = [self.abort(request_id) for request_id in list(self._sequences)]
        return [chunk for chunk in chunks if chunk is not None]

    def stats(self) -> EngineStats:
        page_map = self.pool.page_map()
        return EngineStats(
            num_waiting=len(self.scheduler.waiting),
            num_running=len(self.scheduler.running),
            num_pages=self.pool.num_pages,
            num_free_pages=page_map.count(PageState.FREE),
            num_used_pages=page_map.count(PageState.USED),
            num_shared_pages=page_map.count(PageState.SHARED),
            num_cached_pages=page_map.count(PageState.CACHED),
            page_map=page_map,
            counters=replace(self.counters),
        )

    def check_integrity(self) -> None:
        self.scheduler.check_integrity()
        everyone = {id(s) for s in [*self.scheduler.running, *self.scheduler.waiting]}
        assert everyone == {id(s) for s in self._sequences.values()}, "a request is lost"

    def _check_queue(self) -> None:
        num_waiting, allowed = len(self.scheduler.waiting), self.limits.max_waiting
        if allowed is not None and num_waiting >= allowed:
            retry_after_s = self._pace.time_for(num_waiting)
            raise QueueFull(
                f"{num_waiting} requests are waiting, as many as the engine lets wait; "
                f"try again in {retry_after_s:.0f} s",
                retry_after_s,
            )

    def _sample(
        self, logits: Any, sequences: list[Sequence]
    ) -> tuple[list[int], list[TokenLogprob | None]]:
        """One token for each row of logits, and its probability where it was asked for."""
        if not sequences:
            return [], []
        asked = [
            (row, s.params.logprobs)
            for row, s in enumerate(sequences)
            if s.params.logprobs is not None
        ]
        # Copied first: penalties change the logits in place.
        raw = {row: self.executor.read_row(logits, row) for row, _ in asked}
        penalties = build_penalties(sequences)
        if penalties is not None:
            self.executor.penalize(logits, penalties)
        tokens = self.executor.sample(logits, build_sampling(sequences))
        logprobs: list[TokenLogprob | None] = [None] * len(sequences)
        for row, num_top in asked:
            logprobs[row] = token_logprob(raw[row], tokens[row], num_top)
        return tokens, logprobs

    def _commit(self, sequence: Sequence, token: int, logprob: TokenLogprob | None) -> Chunk:
        """Append a chosen token and see whether it ends the output."""
        sequence.append(token)
        self.counters.num_output_tokens += 1
        sequence.last_token_s = self._clock()
        if sequence.num_output_tokens == 1:
            sequence.first_token_s = sequence.last_token_s
        is_end = token in sequence.end_token_ids
        can_stop = sequence.num_output_tokens >= sequence.params.min_tokens
        text = "" if is_end else sequence.text.push(token, can_stop)
        logprobs = () if logprob is None else (logprob,)
        reason: FinishReason | None = None
        if is_end or sequence.text.found_stop:
            reason = "stop"
        elif len(sequence.tokens) >= sequence.max_total_tokens:
            reason = "length"
        if reason is not None:
            text += sequence.text.finish()
        chunk = Chunk(sequence.request_id, text, (token,), logprobs)
        return chunk if reason is None else self._finish(sequence, reason, chunk)

    def _finish(self, sequence: Sequence, reason: FinishReason, chunk: Chunk) -> Chunk:
        self.scheduler.remove(sequence)
        del self._sequences[sequence.request_id]
        self.counters.num_finished += 1
        now_s = self._clock()
        self._pace.finished(now_s, is_idle=not self.scheduler.has_work)
        return Chunk(
            chunk.request_id,
            chunk.text,
            chunk.token_ids,
            chunk.logprobs,
            finish_reason=reason,
            stats=_stats(sequence, now_s),
        )


def _stats(sequence: Sequence, now_s: float) -> RequestStats:
    count = sequence.num_output_tokens
    between = sequence.last_token_s - sequence.first_token_s
    return RequestStats(
        num_prompt_tokens=sequence.num_prompt_tokens,
        num_output_tokens=count,
        num_preemptions=sequence.num_preemptions,
        ttft_s=sequence.first_token_s - sequence.arrival_s if count else 0.0,
        tpot_s=between / (count - 1) if count > 1 else 0.0,
        total_s=now_s - sequence.arrival_s,
    )
