"""Turns an engine that can prefill and decode into timings, as one line of JSON on stdout."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MEBIBYTE = 1 << 20
REPEATS = 3
DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Job:
    """What one process of one engine is to time."""

    path: Path
    threads: int
    batch: int
    prompt: int  # tokens of each sequence
    decode: int  # tokens added to each
    dtype: str  # of the arithmetic, where an engine has a choice; `auto` leaves it to the engine

    @property
    def context(self) -> int:
        """Tokens that a sequence may grow to."""
        return self.prompt + self.decode + 8


class Session(Protocol):
    """A loaded model. Tokens are Python lists, one a sequence, all of one length."""

    version: str

    def prefill(self, prompts: list[list[int]]) -> None:
        """Forget everything, read the prompts and compute the logits after them."""

    def decode(self, num_tokens: int) -> list[float]:
        """Add `num_tokens` to each sequence; the seconds that each step took."""


def make_prompts(batch: int, num_tokens: int, seed: int) -> list[list[int]]:
    """Tokens that any vocabulary has; no two prompts begin alike, so no cache has them."""
    firsts = range(seed * batch, (seed + 1) * batch)
    return [[(i * 37 + first) % 199 + 10 for i in range(num_tokens)] for first in firsts]


def decode_tokens(batch: int, step: int) -> list[int]:
    """The token that each sequence is given in one step, for engines that are told."""
    return [(7 * step + 131 * row) % 199 + 10 for row in range(batch)]


def measure(open_session: Callable[[Job], Session]) -> None:
    """Read the command line, time the session that `open_session` loads and print the result."""
    job = _read_job()
    session = open_session(job)
    prefills = []
    first_token_at = 0.0
    for seed in range(1 + REPEATS):  # the first warms up
        prompts = make_prompts(job.batch, job.prompt, seed)
        started = time.perf_counter()
        session.prefill(prompts)
        prefills.append(time.perf_counter() - started)
        first_token_at = first_token_at or time.time()
    steps = session.decode(job.decode)
    result = {
        "version": session.version,
        "first_token_at": first_token_at,  # of the first prefill, by the wall clock
        "prefill_s": prefills[1:],
        "decode_step_s": steps,
        "peak_memory_mb": round(_peak_memory_bytes() / MEBIBYTE),
    }
    sys.stdout.write("\n" + json.dumps(result) + "\n")


def _read_job() -> Job:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--decode", type=int, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="auto")
    return Job(**vars(parser.parse_args()))


def _peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
