"""Times an OpenVINO model, exported with its state, through OpenVINO's own runtime."""

from __future__ import annotations

import time

import numpy as np
import openvino

from ingot.bench.peers.measure import Job, decode_tokens, measure

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoSession:
    version = f"openvino {openvino.__version__}"

    def __init__(self, job: Job) -> None:
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job.threads}
        if job.dtype != "auto":
            settings["INFERENCE_PRECISION_HINT"] = PRECISIONS[job.dtype]
        core = openvino.Core()
        model = core.compile_model(str(job.path / "openvino_model.xml"), "CPU", settings)
        self._inputs = {port.get_any_name() for port in model.inputs}
        self._request = model.create_infer_request()
        self._length = 0
        self._num_sequences = job.batch

    def prefill(self, prompts: list[list[int]]) -> None:
        self._request.reset_state()
        self._length = 0
        self._run(np.array(prompts, np.int64))

    def decode(self, num_tokens: int) -> list[float]:
        steps = []
        for i in range(num_tokens):
            started = time.perf_counter()
            tokens = decode_tokens(self._num_sequences, i)
            self._run(np.array(tokens, np.int64)[:, None])
            steps.append(time.perf_counter() - started)
        return steps

    def _run(self, tokens: np.ndarray) -> None:
        sequences, new = tokens.shape
        end = self._length + new
        feeds = {
            "input_ids": tokens,
            "attention_mask": np.ones((sequences, end), np.int64),
            "position_ids": np.tile(np.arange(self._length, end), (sequences, 1)),
            "beam_idx": np.arange(sequences, dtype=np.int32),
        }
        self._request.infer({name: feeds[name] for name in feeds if name in self._inputs})
        self._length = end


if __name__ == "__main__":
    measure(OpenVinoSession)
