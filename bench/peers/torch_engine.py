"""Times a checkpoint in transformers, eager: its own forward and its own growing cache."""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers
from transformers import DynamicCache

from ingot.bench.peers.measure import Job, decode_tokens, measure


def load_model(job: Job) -> Any:
    """The model with transformers' own choice of attention, in the dtype that is asked for."""
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(job.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        job.path,
        dtype="auto" if job.dtype == "auto" else getattr(torch, job.dtype),
        local_files_only=True,
    )
    return model.eval()


class TorchSession:
    version = f"torch {torch.__version__}"

    def __init__(self, job: Job) -> None:
        self._model = load_model(job)
        self._num_sequences = job.batch
        self._cache: Any = None

    def prefill(self, prompts: list[list[int]]) -> None:
        self._cache = DynamicCache(config=self._model.config)
        self._run(prompts)

    def decode(self, num_tokens: int) -> list[float]:
        steps = []
        for i in range(num_tokens):
            started = time.perf_counter()
            self._run([[token] for token in decode_tokens(self._num_sequences, i)])
            steps.append(time.perf_counter() - started)
        return steps

    @torch.inference_mode()
    def _run(self, tokens: list[list[int]]) -> None:
        self._model(
            input_ids=torch.tensor(tokens),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )


if __name__ == "__main__":
    measure(TorchSession)
