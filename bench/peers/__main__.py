"""Runs our engine and others in turns over one checkpoint's forms, and writes a report.

    python -m ingot.bench.peers ingot=ARTIFACT llama.cpp=FILE.gguf openvino=FOLDER \\
        --python llama.cpp=VENV/bin/python --out bench/results/NAME.json
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ingot.bench.command import run_command
from ingot.bench.json_file import write_json
from ingot.bench.machine import describe_machine
from ingot.bench.peers.engines import describe_command, engine_of, parse_pairs, run_module

MODULES = {
    "ingot": "ingot_engine",
    "llama.cpp": "llama_cpp_engine",
    "openvino": "openvino_engine",
    "onnxruntime-genai": "onnxruntime_genai_engine",
    "torch": "torch_engine",
    "torch.compile": "torch_compile_engine",
}


@dataclass(frozen=True, slots=True)
class Case:
    batch: int
    prompt: int
    decode: int


def run_once(
    name: str, path: str, python: str, case: Case, threads: int, dtype: str = "auto"
) -> dict[str, Any]:
    """One process of one engine; raises `UsageError` with its last words if it fails."""
    options = {"threads": threads, "dtype": dtype, **asdict(case)}
    flags = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    started = time.time()
    said = run_module(name, MODULES[engine_of(name)], python, [path, *flags], threads)
    result: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    result["start_to_first_token_s"] = result.pop("first_token_at") - started
    return result


def summarize(case: Case, runs: list[dict[str, Any]]) -> dict[str, float]:
    """One engine in one case: median rates, the shortest start and the most memory of all runs."""
    prefills = [seconds for run in runs for seconds in run["prefill_s"]]
    steps = [seconds for run in runs for seconds in run["decode_step_s"]]
    return {
        "prefill_tokens_per_s": case.batch * case.prompt / statistics.median(prefills),
        "decode_tokens_per_s": case.batch / statistics.median(steps),
        "start_to_first_token_s": min(run["start_to_first_token_s"] for run in runs),
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
    }


def print_table(summaries: list[dict[str, Any]]) -> None:
    table = Table("batch", "prompt", "engine", "prefill tok/s", "decode tok/s", "start s", "MB")
    for row in summaries:
        table.add_row(
            str(row["case"]["batch"]),
            str(row["case"]["prompt"]),
            row["engine"],
            f"{row['prefill_tokens_per_s']:.0f}",
            f"{row['decode_tokens_per_s']:.1f}",
            f"{row['start_to_first_token_s']:.2f}",
            f"{row['peak_memory_mb']:.0f}",
        )
    Console().print(table)


def main(
    engines: Annotated[list[str], typer.Argument(help="ENGINE=PATH or ENGINE/FORM=PATH.")],
    python: Annotated[list[str], typer.Option(help="ENGINE=PYTHON that has it.")] = [],  # noqa: B006
    batch: Annotated[list[int], typer.Option()] = [1],  # noqa: B006
    prompt: Annotated[int, typer.Option(help="Tokens of each prompt.")] = 512,
    decode: Annotated[int, typer.Option(help="Tokens to decode.")] = 64,
    rounds: Annotated[int, typer.Option(help="Each runs the engines forth and back.")] = 1,
    threads: Annotated[int, typer.Option()] = len(os.sched_getaffinity(0)),
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16, where an engine asks.")] = "auto",
    title: Annotated[str, typer.Option(help="What the table is called.")] = "",
    out: Annotated[Path | None, typer.Option(help="Where the report goes, as JSON.")] = None,
) -> None:
    paths, pythons = parse_pairs(engines, MODULES), parse_pairs(python, MODULES)
    report: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "title": title,
        "command": describe_command("ingot.bench.peers", sys.argv[1:]),
        "machine": asdict(describe_machine()),
        "threads": threads,
        "dtype": dtype,
        "runs": [],
        "summaries": [],
    }
    for size in batch:
        case = Case(size, prompt, decode)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in paths}
        for name in [*paths, *reversed(paths)] * rounds:
            interpreter = pythons.get(engine_of(name), sys.executable)
            run = run_once(name, paths[name], interpreter, case, threads, dtype)
            runs[name].append(run)
            report["runs"].append({"engine": name, "case": asdict(case), **run})
        for name in paths:
            summary = summarize(case, runs[name])
            report["summaries"].append({"engine": name, "case": asdict(case), **summary})
    print_table(report["summaries"])
    if out is not None:
        write_json(report, out)


if __name__ == "__main__":
    run_command(main)
