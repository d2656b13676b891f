"""Turns token prompts into chunks of output: the loop of schedule, run, sample, commit."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import TYPE_CHECKING

from ingot.runtime.embedder import pool_chunks
from ingot.runtime.engine_stats import Counters, EngineStats, PageState
from ingot.runtime.executor import Executor
from ingot.runtime.growth import grow
from ingot.runtime.kv import PagePool
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk, FinishReason
from ingot.runtime.pace import Pace
from ingot.runtime.request import Request, create_request
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampler import Choice, Sampler, accept, choose_rows
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.scheduler import Schedule, ScheduledChunk, Scheduler, note_step
from ingot.runtime.sequence import Sequence, measure
from ingot.runtime.step_inputs import build_step_inputs
from ingot.runtime.text_stream import Decode

if TYPE_CHECKING:
    from ingot.runtime.constraints.masker import Masker
    from ingot.runtime.speculation.speculator import Speculator


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
        masker: Masker,
        speculator: Speculator | None = None,
        gives_pages_ahead: bool = False,
    ) -> None:
        self.executor = executor
        self.pool = pool
        self.limits = limits
        self.masker = masker
        self.counters = Counters()
        self.scheduler = Scheduler(
            pool,
            max_sequences=limits.max_sequences,
            max_step_tokens=limits.max_step_tokens,
            gives_ahead=gives_pages_ahead,
        )
        self._sampler = Sampler(executor, masker)
        self._speculator = speculator
        self.is_speculating = True  # if it can; may be changed between steps
        self._decode = decode
        self._eos_token_ids = eos_token_ids
        self._clock = clock
        self._ids = itertools.count()
        self._pace = Pace()
        self._requests: dict[int, Request] = {}
        self._deadlines: list[tuple[float, int]] = []  # a heap; finished requests stay in it

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def step(self) -> list[Chunk]:
        """Run one step of the model over all that fits, and say what came of it."""
        start_s = self._clock()
        chunks = self._expire(start_s)
        speculator = self._speculator if self.is_speculating else None
        if speculator is not None:
            speculator.propose(self.scheduler.running)
        schedule = self.scheduler.schedule()
        if not schedule.chunks:
            return chunks
        self._count(schedule, start_s)
        embedding = [chunk for chunk in schedule.chunks if chunk.sequence.pooling is not None]
        generating = [chunk for chunk in schedule.chunks if chunk.sequence.pooling is None]
        if embedding:
            chunks += self._embed(embedding, start_s)
        if generating:
            chunks += self._generate(generating, start_s)
        if speculator is not None and not embedding:  # else it is not the time of guesses alone
            speculator.record(schedule, self._clock() - start_s)
        return chunks

    def _generate(self, scheduled: Seq[ScheduledChunk], start_s: float) -> list[Chunk]:
        """Run chunks of sequences that are continued, and commit what is sampled."""
        rows, places = choose_rows(scheduled)
        inputs = build_step_inputs(scheduled, self.pool.page_size_tokens, places)
        self._sampler.start(rows)
        sampled: Iterator[Choice] = iter(())
        if rows:
            sampled = iter(self._sampler.run(inputs, rows))
            self.counters.num_graph_misses = self.executor.num_graph_misses
        else:
            self.executor.step(inputs)
        now_s = self._clock()
        note_step(scheduled, start_s, now_s)
        return [given for chunk in scheduled for given in self._commit(chunk, sampled, now_s)]

    def _embed(self, scheduled: Seq[ScheduledChunk], start_s: float) -> list[Chunk]:
        """Run chunks of prompts whose embeddings are wanted: the head is left out."""
        pool_chunks(self.executor, scheduled, self.pool.page_size_tokens)
        now_s = self._clock()
        note_step(scheduled, start_s, now_s)
        chunks: list[Chunk] = []
        for chunk in scheduled:
            sequence, is_last = chunk.sequence, chunk.is_last
            self.scheduler.advance(sequence, chunk.num_tokens)
            if is_last:
                assert sequence.pooling is not None
                vector = sequence.pooling.result()
                given = Chunk(sequence.request_id, "", (), embedding=vector)
                chunks += self._finish(sequence, given, "stop", now_s)
        return chunks

    def add(
        self, prompt: Seq[int], params: SamplingParams, options: RequestOptions | None = None
    ) -> int:
        """Check a request and let it wait for its turn."""
        options = options or RequestOptions()
        if options.pooling is not None:
            params = SamplingParams()  # nothing is sampled
        self.limits.check(prompt, params, options)
        self.limits.check_queue(
            len(self.scheduler.running), len(self.scheduler.waiting), self._retry_after_s
        )
        matcher = None
        if params.constraint is not None:
            matcher = self.masker.compile(params.constraint)
        request = create_request(
            next(self._ids),
            prompt,
            params,
            options,
            limits=self.limits,
            decode=self._decode,
            eos_token_ids=self._eos_token_ids,
            now_s=self._clock(),
            matcher=matcher,
        )
        self._requests[request.request_id] = request
        if request.deadline_s is not None:
            heapq.heappush(self._deadlines, (request.deadline_s, request.request_id))
        self.scheduler.add(request.outputs[0])
        self.counters.num_requests += 1
        self.counters.num_prompt_tokens += len(prompt)
        return request.request_id

    def abort(self, request_id: int) -> list[Chunk]:
        """Stop a request and free its pages: a last chunk for each output that is still to come,
        none if there is no such request (any more)."""
        return self._end(request_id, "abort")

    def abort_all(self) -> list[Chunk]:
        return [chunk for request_id in list(self._requests) for chunk in self.abort(request_id)]

    def close(self) -> None:
        """Stop all requests and the thread that makes masks."""
        self.abort_all()
        self.check_integrity()
        self.masker.close()

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
            retry_after_s=self._retry_after_s,
        )

    @property
    def _retry_after_s(self) -> float:
        return self._pace.time_for(len(self.scheduler.waiting))

    def check_integrity(self) -> None:
        self.scheduler.check_integrity()
        scheduled = [*self.scheduler.running, *self.scheduler.waiting]
        everyone = scheduled + [fork for sequence in scheduled for fork in sequence.forks]
        known = [s for r in self._requests.values() for s in r.unfinished.values()]
        assert len(everyone) == len(known), "a request is lost or runs twice"
        assert set(map(id, everyone)) == set(map(id, known)), "a request is lost"

    def _expire(self, now_s: float) -> list[Chunk]:
        """End the requests whose time is over."""
        chunks: list[Chunk] = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            chunks += self._end(heapq.heappop(self._deadlines)[1], "timeout")
        return chunks

    def _end(self, request_id: int, reason: FinishReason) -> list[Chunk]:
        request = self._requests.get(request_id)
        if request is None:
            return []
        chunks: list[Chunk] = []
        now_s = self._clock()
        for sequence in list(request.unfinished.values()):
            chunk = Chunk(request_id, sequence.text.finish(), (), index=sequence.index)
            chunks += self._finish(sequence, chunk, reason, now_s)
        return chunks

    def _count(self, schedule: Schedule, start_s: float) -> None:
        counters = self.counters
        counters.num_steps += 1
        counters.num_preemptions += len(schedule.preempted)
        for sequence in schedule.admitted:
            if sequence.start_s is None:
                sequence.start_s = start_s
                sequence.num_prefix_hit_tokens = sequence.num_cached_tokens
                counters.num_prefix_hit_tokens += sequence.num_cached_tokens
        for chunk in schedule.chunks:
            counters.num_proposed_tokens += chunk.num_proposed

    def _commit(
        self, chunk: ScheduledChunk, sampled: Iterator[Choice], now_s: float
    ) -> list[Chunk]:
        """Take what was sampled from a chunk's rows: the tokens of its sequence up to the first
        that was not proposed, and the first tokens of its forks."""
        sequence = chunk.sequence
        for _ in chunk.prompt_rows:
            _, logprob = next(sampled)
            assert logprob is not None
            sequence.prompt_logprobs.append(logprob)
        if not chunk.is_last:
            self.scheduler.advance(sequence, chunk.num_tokens)
            return []
        candidates = [next(sampled) for _ in range(1 + chunk.num_proposed)]
        accepted = accept(candidates, sequence.proposed)
        given, reason = grow(sequence, accepted, now_s)
        num_accepted = max(0, len(given.token_ids) - 1)
        sequence.num_proposed_tokens += chunk.num_proposed
        sequence.num_accepted_tokens += num_accepted
        self.counters.num_accepted_tokens += num_accepted
        num_read = chunk.num_tokens - chunk.num_proposed
        self.scheduler.advance(sequence, num_read + num_accepted)
        # The forks take their pages before their parent, done with its first token, gives its up.
        chunks = self._fork(sequence, sampled, now_s) if sequence.forks else []
        return chunks + self._give(sequence, given, reason, now_s)

    def _fork(self, parent: Sequence, sampled: Iterator[Choice], now_s: float) -> list[Chunk]:
        """Let the other outputs of a prompt go their own ways, from their own first tokens."""
        forks, parent.forks = parent.forks, []
        copies: list[tuple[int, int]] = []
        chunks: list[Chunk] = []
        for child in forks:
            child.start_s = parent.start_s
            child.num_prefix_hit_tokens = parent.num_prefix_hit_tokens
            child.prompt_logprobs = parent.prompt_logprobs
            copies += self.scheduler.fork(parent, child)
            given, reason = grow(child, [next(sampled)], now_s)
            chunks += self._give(child, given, reason, now_s)
        if copies:
            self.executor.copy_pages(copies)
        return chunks

    def _give(
        self, sequence: Sequence, chunk: Chunk, reason: FinishReason | None, now_s: float
    ) -> list[Chunk]:
        self.counters.num_output_tokens += len(chunk.token_ids)
        if reason is not None:
            return self._finish(sequence, chunk, reason, now_s)
        return self._requests[sequence.request_id].give(chunk)

    def _finish(
        self, sequence: Sequence, chunk: Chunk, reason: FinishReason, now_s: float
    ) -> list[Chunk]:
        self.scheduler.remove(sequence)
        if self._speculator is not None:
            self._speculator.forget(sequence)
        request = self._requests[sequence.request_id]
        chunks = request.give(replace(chunk, finish_reason=reason, stats=measure(sequence, now_s)))
        if not request.unfinished:
            del self._requests[request.request_id]
            self.counters.num_finished += 1
            self._pace.finished(now_s, is_idle=not self.scheduler.has_work)
        return chunks
