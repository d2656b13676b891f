"""Logits of an Ingot artifact, each window read in one step."""

from __future__ import annotations

import numpy as np

from ingot.bench.peers.logits import Logits, write_logits
from ingot.bench.peers.measure import Job
from ingot.runtime.artifact import load_artifact
from ingot.runtime.executor import CompiledExecutor
from ingot.runtime.step_inputs import StepInputs


def open_engine(job: Job) -> Logits:
    artifact = load_artifact(job.path)
    pages = -(-job.context // artifact.manifest.page_size_tokens)
    executor = CompiledExecutor(artifact, num_pages=pages, num_threads=job.threads)

    def logits_of(tokens: list[int]) -> np.ndarray:
        length, positions = len(tokens), np.arange(len(tokens), dtype=np.int32)
        inputs = StepInputs(
            token_ids=np.array(tokens, np.int32),
            positions=positions,
            slots=positions,  # pages in order
            page_table=np.arange(pages, dtype=np.int32)[None],
            query_offsets=np.array([0, length], np.int32),
            context_lengths=np.array([length], np.int32),
            logit_rows=positions,
        )
        # The next window writes where these lie.
        return executor.trace(inputs)[0].copy()

    return logits_of


if __name__ == "__main__":
    write_logits(open_engine)
