"""Windows of tokens in a file to an engine's logits after each of them, in another file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ingot.bench.peers.measure import Job

Logits = Callable[[list[int]], np.ndarray]


def write_logits(open_engine: Callable[[Job], Logits]) -> None:
    """Read the command line, ask the engine that `open_engine` loads, and save what it says.

    `windows` is `[windows, tokens]`; `out` becomes float32 `[windows, tokens, vocabulary]`.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("windows", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    windows = np.load(given.windows)
    job = Job(given.path, given.threads, batch=1, prompt=windows.shape[1], decode=0, dtype="auto")
    logits_of = open_engine(job)
    np.save(given.out, np.stack([logits_of(window.tolist()) for window in windows]))
