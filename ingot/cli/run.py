"""`ingot run`: an artifact and a prompt to text, as it is generated."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from ingot.cli import sampling
from ingot.cli.options import Artifact, Json, Threads


def run(
    artifact: Artifact,
    prompt: Annotated[str, typer.Argument(help="Text to continue; - reads it from stdin.")],
    max_tokens: sampling.MaxTokens = None,
    temperature: sampling.Temperature = None,
    top_k: sampling.TopK = None,
    top_p: sampling.TopP = None,
    min_p: sampling.MinP = None,
    repetition_penalty: sampling.Repetition = None,
    presence_penalty: sampling.Presence = None,
    frequency_penalty: sampling.Frequency = None,
    seed: sampling.Seed = None,
    stop: sampling.Stop = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Continue PROMPT with an artifact.

    Text goes to stdout as it comes, timings to stderr.
    """
    from ingot.cli.output import print_json
    from ingot.environment import read_variable
    from ingot.runtime import Engine

    params = sampling.make_params(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
        stop=stop,
    )
    text = sys.stdin.read() if prompt == "-" else prompt
    engine = Engine(artifact, num_threads=threads or read_variable("INGOT_NUM_THREADS"))
    if as_json:
        from dataclasses import asdict

        (completion,) = engine.generate(text, params)
        print_json(asdict(completion))
        return
    print(text, end="", flush=True)
    start = time.perf_counter()
    first_s, num_tokens = 0.0, 0
    for chunk in engine.stream(text, params):
        first_s = first_s or time.perf_counter() - start
        num_tokens += len(chunk.token_ids)
        print(chunk.text, end="", flush=True)
    print()
    seconds = time.perf_counter() - start
    print(
        f"{num_tokens} tokens in {seconds:.2f} s, the first after {first_s:.3f} s", file=sys.stderr
    )
