"""Measures an artifact with and without speculation: prompts to speed-up, acceptance and sameness.

All ways run in turns in one process, on the same prompts: what else the machine does disturbs them
alike. The plain way runs as two engines: how far the second is from the first is what the machine
alone makes of equal ways. A turn is several requests for each place in the batch, so that places
are filled again as outputs end. The first turn warms up and is not counted; prompts are in the
prefix cache after it, and the governor keeps what it learned.
"""

from __future__ import annotations

import inspect
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ingot.bench.machine import Machine, describe_machine
from ingot.runtime import Engine, SamplingParams
from ingot.runtime.speculation.build import SpeculationKind

SOURCES = (
    inspect.getsource,
    textwrap.wrap,
    textwrap.dedent,
    inspect.cleandoc,
    inspect.getmodule,
    inspect.getfile,
    textwrap.indent,
    inspect.getcallargs,
)
MAX_SOURCE_LINES = 30
REQUESTS_A_PLACE = 3
TASKS = ("edit", "write")
PLAIN, PLAIN_AGAIN = "none", "none again"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the model, on one task and batch size. Times are medians over turns."""

    task: str
    batch: int
    speculation: str  # PLAIN, PLAIN_AGAIN, or the kind
    tokens_per_s: float
    speedup: float
    acceptance: float | None  # of what was proposed; None where nothing was
    tokens_per_step: float  # and sequence
    same_text: bool


@dataclass(frozen=True, slots=True)
class SpeculationReport:
    machine: Machine
    artifact: str
    draft: str | None
    threads: int
    new_tokens: int
    turns: int
    ways: tuple[Way, ...]


def make_prompt(task: str, index: int) -> str:
    """`edit`: a function, and the start of its second version, which repeats most of the first.
    `write`: the start of a function that is nowhere in the prompt."""
    function = SOURCES[index % len(SOURCES)]
    lines = inspect.getsource(function).splitlines()[:MAX_SOURCE_LINES]
    if task == "write":
        return "\n".join(lines[: len(lines) // 3])
    source = "\n".join(lines)
    return f"{source}\n\n\n# The same function with another name:\n{lines[0]}\n"


def spread_lengths(mean: int, count: int) -> list[int]:
    """Lengths from half to one and a half of the mean: places do not end all at once."""
    return [max(1, mean // 2 + (7 * index % 11) * mean // 10) for index in range(count)]


@dataclass(slots=True)
class Tally:
    """What one engine did on one case."""

    seconds: list[float]
    texts: list[str]
    num_tokens: int = 0
    num_steps: int = 0
    num_proposed: int = 0
    num_accepted: int = 0


def measure_speculation(
    artifact: Path,
    draft: Path | None,
    *,
    batches: Sequence[int] = (1, 8),
    new_tokens: int = 128,
    turns: int = 5,
    threads: int | None = None,
    report_progress: Callable[[str], None] = lambda line: None,
) -> SpeculationReport:
    """Every way on every task and batch size."""
    machine = describe_machine()
    kinds: dict[str, SpeculationKind | None] = {
        PLAIN: None,
        PLAIN_AGAIN: None,
        "prompt-lookup": "prompt-lookup",
    }
    if draft:
        kinds["draft"] = "draft"
    ways: list[Way] = []
    for batch in batches:
        with ExitStack() as stack:
            engines = {
                name: stack.enter_context(
                    Engine(
                        artifact,
                        num_threads=threads,
                        max_sequences=batch,
                        speculation=kind,
                        draft=draft if kind == "draft" else None,
                    )
                )
                for name, kind in kinds.items()
            }
            for task in TASKS:
                report_progress(f"{task}, batch {batch}")
                prompts = [make_prompt(task, index) for index in range(REQUESTS_A_PLACE * batch)]
                tallies = {name: Tally([], []) for name in kinds}
                for turn in range(turns + 1):
                    for name in order_of(turn, list(kinds)):
                        _run(engines[name], prompts, new_tokens, tallies[name], is_counted=turn > 0)
                ways += compare(task, batch, tallies)
    num_threads = threads or machine.usable_cores
    return SpeculationReport(
        machine=machine,
        artifact=artifact.name,
        draft=draft.name if draft else None,
        threads=num_threads,
        new_tokens=new_tokens,
        turns=turns,
        ways=tuple(ways),
    )


def order_of(turn: int, names: list[str]) -> list[str]:
    """Nobody has its turn always first, or always after the same other."""
    start = turn // 2 % len(names)
    order = names[start:] + names[:start]
    return order[::-1] if turn % 2 else order


def _run(
    engine: Engine, prompts: list[str], new_tokens: int, tally: Tally, *, is_counted: bool
) -> None:
    """One turn."""
    before = engine.stats().counters
    params = [
        SamplingParams(max_tokens=length, ignore_eos=True)
        for length in spread_lengths(new_tokens, len(prompts))
    ]
    start_s = time.perf_counter()
    completions = engine.generate(prompts, params)
    seconds = time.perf_counter() - start_s
    if not is_counted:
        return
    after = engine.stats().counters
    tally.seconds.append(seconds)
    tally.texts = [completion.text for completion in completions]
    tally.num_tokens += after.num_output_tokens - before.num_output_tokens
    tally.num_steps += after.num_steps - before.num_steps
    tally.num_proposed += after.num_proposed_tokens - before.num_proposed_tokens
    tally.num_accepted += after.num_accepted_tokens - before.num_accepted_tokens


def compare(task: str, batch: int, tallies: dict[str, Tally]) -> list[Way]:
    plain = tallies[PLAIN]
    ways = []
    for name, tally in tallies.items():
        seconds = median(tally.seconds)
        ratios = [a / b for a, b in zip(plain.seconds, tally.seconds, strict=True)]
        num_tokens = tally.num_tokens / len(tally.seconds)
        ways.append(
            Way(
                task=task,
                batch=batch,
                speculation=name,
                tokens_per_s=num_tokens / seconds,
                # Turn by turn: what disturbs a turn disturbs all of its runs.
                speedup=median(ratios),
                acceptance=tally.num_accepted / tally.num_proposed if tally.num_proposed else None,
                tokens_per_step=tally.num_tokens / tally.num_steps / batch,
                same_text=tally.texts == plain.texts,
            )
        )
    return ways
