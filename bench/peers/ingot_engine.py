"""Times an Ingot artifact through `Engine`, scheduling and sampling included."""

from __future__ import annotations

import time

from ingot import Engine, SamplingParams, __version__
from ingot.bench.peers.measure import Job, measure


class IngotSession:
    version = __version__

    def __init__(self, job: Job) -> None:
        pages = -(-(job.context + 64) // 32) * job.batch
        self._engine = Engine(
            job.path, num_threads=job.threads, num_pages=pages, max_sequences=job.batch
        )
        self._running: list[int] = []
        self._params = SamplingParams(ignore_eos=True, max_tokens=job.context)

    def prefill(self, prompts: list[list[int]]) -> None:
        for request_id in self._running:
            self._engine.abort(request_id)
        self._running = [self._engine.add_request(prompt, self._params) for prompt in prompts]
        waiting = set(self._running)
        while waiting:
            waiting -= {chunk.request_id for chunk in self._engine.step()}

    def decode(self, num_tokens: int) -> list[float]:
        steps = []
        for _ in range(num_tokens):
            started = time.perf_counter()
            self._engine.step()
            steps.append(time.perf_counter() - started)
        return steps


if __name__ == "__main__":
    measure(IngotSession)
