"""Times llama.cpp on a GGUF file through llama-cpp-python's low-level functions."""

from __future__ import annotations

import time
from typing import Any

import llama_cpp
import numpy as np

from ingot.bench.peers.measure import Job, decode_tokens, measure

MICRO_BATCH = 512


class LlamaCppSession:
    version = f"llama-cpp-python {llama_cpp.__version__}"

    def __init__(self, job: Job) -> None:
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(job.path).encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = job.context * job.batch, job.batch
        params.n_batch = params.n_ubatch = MICRO_BATCH
        params.n_threads = params.n_threads_batch = job.threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._batch = llama_cpp.llama_batch_init(MICRO_BATCH, 0, 1)
        self._length = 0
        self._num_sequences = job.batch

    def prefill(self, prompts: list[list[int]]) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        for sequence, prompt in enumerate(prompts):
            for start in range(0, len(prompt), MICRO_BATCH):
                part = prompt[start : start + MICRO_BATCH]
                last = start + len(part) == len(prompt)
                self._run(
                    [
                        (token, start + i, sequence, last and i == len(part) - 1)
                        for i, token in enumerate(part)
                    ]
                )
        self._length = len(prompts[0])

    def decode(self, num_tokens: int) -> list[float]:
        steps = []
        for i in range(num_tokens):
            started = time.perf_counter()
            tokens = decode_tokens(self._num_sequences, i)
            self._run([(token, self._length, row, True) for row, token in enumerate(tokens)])
            self._length += 1
            steps.append(time.perf_counter() - started)
        return steps

    def logits(self, tokens: list[int]) -> np.ndarray:
        """The logits after each token of one sequence, no longer than `MICRO_BATCH`."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        self._run([(token, i, 0, True) for i, token in enumerate(tokens)])
        vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        memory = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(memory, (len(tokens), vocabulary)).copy()

    def _run(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """Rows of (token, position, sequence, whether its logits are wanted)."""
        batch: Any = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wants_logits) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wants_logits
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        status = llama_cpp.llama_decode(self._context, batch)
        if status:
            raise RuntimeError(f"llama_decode gave {status}")


if __name__ == "__main__":
    measure(LlamaCppSession)
