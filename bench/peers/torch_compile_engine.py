"""Times a checkpoint in transformers with torch.compile: the step compiled over a static cache.

That is how transformers' own `generate` uses torch.compile: prefill runs as it is. The steps that
compile (the first ones of a process) are taken before the clock starts.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import StaticCache

from ingot.bench.peers.measure import Job, decode_tokens, measure
from ingot.bench.peers.torch_engine import load_model

WARM_UPS = 2


class TorchCompileSession:
    version = f"torch {torch.__version__}"

    def __init__(self, job: Job) -> None:
        self._model = load_model(job)
        self._num_sequences = job.batch
        self._length = 0
        # past the limit torch would run eager without a word
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        self._cache = StaticCache(config=self._model.config, max_cache_len=job.context)
        self._compiled_step = torch.compile(self._step, fullgraph=True, dynamic=False)

    @torch.no_grad()
    def prefill(self, prompts: list[list[int]]) -> None:
        self._cache.reset()
        self._length = len(prompts[0])
        positions = torch.arange(self._length).expand(len(prompts), -1)
        self._step(torch.tensor(prompts), positions)

    def decode(self, num_tokens: int) -> list[float]:
        for i in range(WARM_UPS):
            self._decode_one(i)
        steps = []
        for i in range(num_tokens):
            started = time.perf_counter()
            self._decode_one(i)
            steps.append(time.perf_counter() - started)
        return steps

    @torch.no_grad()
    def _decode_one(self, step: int) -> None:
        tokens = torch.tensor(decode_tokens(self._num_sequences, step))[:, None]
        self._compiled_step(tokens, torch.full_like(tokens, self._length))
        self._length += 1

    def _step(self, tokens: torch.Tensor, positions: torch.Tensor) -> Any:
        return self._model(
            input_ids=tokens,
            past_key_values=self._cache,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        ).logits


if __name__ == "__main__":
    measure(TorchCompileSession)
