"""Forms of the demo model to how far each departs from the float32 model on held-out text.

    python -m ingot.bench.peers.divergence ingot/w4=ARTIFACT llama.cpp/Q4_0=FILE.gguf \\
        --python llama.cpp=VENV/bin/python --out bench/results/divergence-demo-NAME.json

The text is the standard library's files that the demo model was not trained on; every form reads
the same tokens, and so does the model that they are held against, transformers' eager in float32.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ingot.bench.command import run_command
from ingot.bench.json_file import write_json
from ingot.bench.machine import describe_machine
from ingot.bench.peers.engines import describe_command, engine_of, parse_pairs, run_module
from ingot.errors import UsageError

MODULES = {"ingot": "ingot_logits", "llama.cpp": "llama_cpp_logits"}

Floats = NDArray[np.floating[Any]]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far a form's next-token probabilities are from float32's, over all places of a text."""

    mean: float  # Kullback-Leibler divergence in nats, of the form from float32
    standard_error: float  # of the mean, windows being independent and their tokens not
    median: float
    p99: float
    same_top_token: float  # share of the places
    perplexity: float  # of the text


def log_probabilities(logits: Floats) -> Floats:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted


def diverge(reference: Floats, logits: Floats, windows: Tokens) -> Divergence:
    """Logits `[windows, tokens, vocabulary]` of two models after the tokens of each window."""
    divergences, same, surprises = [], [], []
    for expected, got, tokens in zip(reference, logits, windows, strict=True):
        p, q = log_probabilities(expected), log_probabilities(got)
        divergences.append((np.exp(p) * (p - q)).sum(-1))
        same.append(p.argmax(-1) == q.argmax(-1))
        surprises.append(-np.take_along_axis(q[:-1], tokens[1:, None], 1))
    by_window = np.array(divergences)
    means = by_window.mean(1)
    return Divergence(
        mean=float(means.mean()),
        standard_error=float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0,
        median=float(np.median(by_window)),
        p99=float(np.quantile(by_window, 0.99)),
        same_top_token=float(np.mean(same)),
        perplexity=float(np.exp(np.mean(surprises))),
    )


def held_out_windows(num_tokens: int, per_file: int) -> Tokens:
    """The first windows of each file that training never read, `[windows, num_tokens]`."""
    from tokenizers import Tokenizer

    from ingot.models.demo_training.corpus import read_corpus
    from ingot.models.demo_training.tokenizer import END_OF_TEXT
    from ingot.models.resolve import resolve_model

    tokenizer = Tokenizer.from_file(str(resolve_model("demo").path / "tokenizer.json"))
    windows = []
    for document in read_corpus(held_out_only=True):
        ids = tokenizer.encode(END_OF_TEXT + document.text, add_special_tokens=False).ids
        whole = min(per_file, len(ids) // num_tokens)
        windows += [ids[i * num_tokens : (i + 1) * num_tokens] for i in range(whole)]
    if not windows:
        raise UsageError(f"no held-out file has {num_tokens} tokens; ask for shorter windows")
    return np.array(windows)


def eager_logits(windows: Tokens) -> Floats:
    import torch

    from ingot.models.eager import load_eager
    from ingot.models.resolve import resolve_model

    model = load_eager(resolve_model("demo"), torch.float32)
    with torch.inference_mode():
        logits = [model(torch.from_numpy(window[None])).logits[0].numpy() for window in windows]
    return np.stack(logits)


def print_table(forms: list[dict[str, Any]]) -> None:
    table = Table("form", "KL mean", "±", "median", "99%", "same top token", "perplexity")
    for form in forms:
        figures = [form[name] for name in ("mean", "standard_error", "median", "p99")]
        table.add_row(
            form["form"],
            *(f"{figure:.5f}" for figure in figures),
            f"{form['same_top_token']:.2%}",
            f"{form['perplexity']:.3f}",
        )
    Console().print(table)


def main(
    forms: Annotated[list[str], typer.Argument(help="ENGINE/FORM=PATH of the demo model.")],
    python: Annotated[list[str], typer.Option(help="ENGINE=PYTHON that has it.")] = [],  # noqa: B006
    tokens: Annotated[int, typer.Option(help="Tokens of a window.")] = 256,
    per_file: Annotated[int, typer.Option(help="Windows of each file.")] = 2,
    threads: Annotated[int, typer.Option()] = len(os.sched_getaffinity(0)),
    out: Annotated[Path | None, typer.Option(help="Where the report goes, as JSON.")] = None,
) -> None:
    paths, pythons = parse_pairs(forms, MODULES), parse_pairs(python, MODULES)
    windows = held_out_windows(tokens, per_file)
    reference = eager_logits(windows)
    eager = {"form": "eager/f32", **asdict(diverge(reference, reference, windows))}
    rows: list[dict[str, Any]] = [eager]
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "windows.npy", Path(folder) / "logits.npy"
        np.save(asked, windows)
        for name, path in paths.items():
            engine = engine_of(name)
            arguments = [path, str(asked), str(answered), "--threads", str(threads)]
            interpreter = pythons.get(engine, sys.executable)
            run_module(name, MODULES[engine], interpreter, arguments, threads)
            logits = np.load(answered, mmap_mode="r")
            rows.append({"form": name, **asdict(diverge(reference, logits, windows))})
    print_table(rows)
    if out is not None:
        report = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": describe_command("ingot.bench.peers.divergence", sys.argv[1:]),
            "machine": asdict(describe_machine()),
            "threads": threads,
            "windows": len(windows),
            "tokens": tokens,
            "forms": rows,
        }
        write_json(report, out)


if __name__ == "__main__":
    run_command(main)
