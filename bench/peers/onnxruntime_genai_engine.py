"""Times an onnxruntime-genai model folder through its generator."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime_genai

from ingot.bench.peers.measure import Job, measure


class OnnxRuntimeGenaiSession:
    version = f"onnxruntime-genai {onnxruntime_genai.__version__}"

    def __init__(self, job: Job) -> None:
        # It takes all cores that it may use; the caller gives it no more.
        self._model = onnxruntime_genai.Model(str(job.path))
        self._options = {
            "batch_size": job.batch,
            "max_length": job.context,
            "min_length": job.context,
            "do_sample": False,
            "past_present_share_buffer": True,
        }
        self._generator: onnxruntime_genai.Generator | None = None

    def prefill(self, prompts: list[list[int]]) -> None:
        params = onnxruntime_genai.GeneratorParams(self._model)
        params.set_search_options(**self._options)
        self._generator = onnxruntime_genai.Generator(self._model, params)
        self._generator.append_tokens(np.array(prompts, np.int32))
        self._generator.generate_next_token()

    def decode(self, num_tokens: int) -> list[float]:
        assert self._generator is not None
        steps = []
        for _ in range(num_tokens):
            started = time.perf_counter()
            self._generator.generate_next_token()
            steps.append(time.perf_counter() - started)
        return steps


if __name__ == "__main__":
    measure(OnnxRuntimeGenaiSession)
