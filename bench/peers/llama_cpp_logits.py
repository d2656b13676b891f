"""Logits of a GGUF file in llama.cpp, each window read as one batch."""

from __future__ import annotations

from ingot.bench.peers.llama_cpp_engine import LlamaCppSession
from ingot.bench.peers.logits import Logits, write_logits
from ingot.bench.peers.measure import Job


def open_engine(job: Job) -> Logits:
    return LlamaCppSession(job).logits


if __name__ == "__main__":
    write_logits(open_engine)
