"""Measures an artifact with and without speculation: prompts to speed-up, acceptance and sameness.

One engine runs all three ways, plain, plain again and guessed, its speculation switched off and on:
where another engine's memory happens to lie makes more difference than is looked for.
A turn runs the ways on the same prompts one right after the other, the next turn in another order.
What is compared are times of one turn, so that what disturbs a turn disturbs all of its ways. Plain
against plain again is the control: what the machine alone makes of equal ways.

Prompts are in the prefix cache, by a plain run that is not counted. All that speculation ever does
is counted, its first tries too, and the governor keeps what it learned.
"""

from __future__ import annotations

import inspect
import math
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Literal

from ingot.bench.machine import Machine, describe_machine
from ingot.runtime import Engine, SamplingParams
from ingot.runtime.speculation.build import KINDS, SpeculationKind

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
PLAIN, PLAIN_AGAIN, GUESSED = WAYS = ("plain", "plain again", "guessed")
ALLOWED = 0.95  # of the plain speed: a speed-up below is a loss
Verdict = Literal["not slower", "slower", "not told"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median over turns, where the middle half of them lies, and between which bounds the true
    median is, by 95%."""

    median: float
    quartiles: tuple[float, float]
    interval: tuple[float, float]

    @property
    def verdict(self) -> Verdict:
        """Whether it is a loss of more than is allowed; not told where the bounds say both."""
        low, high = self.interval
        return "not slower" if low >= ALLOWED else "slower" if high < ALLOWED else "not told"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of speculation on one task and batch size."""

    task: str
    batch: int
    speculation: SpeculationKind
    tokens_per_s: float  # medians over turns
    plain_tokens_per_s: float
    speedup: Ratio
    control: Ratio  # plain against plain again
    verdict: Verdict
    acceptance: float | None  # of what was proposed; None where nothing was
    tokens_per_step: float
    plain_tokens_per_step: float
    same_text: bool


@dataclass(frozen=True, slots=True)
class SpeculationReport:
    machine: Machine
    artifact: str
    draft: str | None
    threads: int
    new_tokens: int
    turns: int
    cases: tuple[Case, ...]


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
    """What one way did on one case, turn by turn."""

    seconds: list[float] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)
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
    """Every kind on every task and batch size."""
    machine = describe_machine()
    kinds: tuple[SpeculationKind, ...] = KINDS if draft else ("prompt-lookup",)
    cases: list[Case] = []
    for batch in batches:
        for kind in kinds:
            engine = Engine(
                artifact,
                num_threads=threads,
                max_sequences=batch,
                speculation=kind,
                draft=draft if kind == "draft" else None,
            )
            with engine:
                for task in TASKS:
                    report_progress(f"{kind}, {task}, batch {batch}")
                    tallies = run_case(engine, task, batch, new_tokens, turns)
                    cases.append(compare(task, batch, kind, tallies))
    return SpeculationReport(
        machine=machine,
        artifact=artifact.name,
        draft=draft.name if draft else None,
        threads=threads or machine.usable_cores,
        new_tokens=new_tokens,
        turns=turns,
        cases=tuple(cases),
    )


def run_case(
    engine: Engine, task: str, batch: int, new_tokens: int, turns: int
) -> dict[str, Tally]:
    """All ways, turn by turn, each turn on the next few prompts and in the next order."""
    prompts = [make_prompt(task, index) for index in range(len(SOURCES))]
    engine.speculate(False)
    engine.generate(prompts, SamplingParams(max_tokens=new_tokens, ignore_eos=True))
    tallies = {name: Tally() for name in WAYS}
    count = REQUESTS_A_PLACE * batch
    orders = list(permutations(WAYS))
    for turn in range(turns):
        chosen = [prompts[(turn * count + index) % len(prompts)] for index in range(count)]
        for name in orders[turn % len(orders)]:
            engine.speculate(name == GUESSED)
            _run(engine, chosen, new_tokens, tallies[name])
    return tallies


def _run(engine: Engine, prompts: list[str], new_tokens: int, tally: Tally) -> None:
    """One way in one turn."""
    before = engine.stats().counters
    params = [
        SamplingParams(max_tokens=length, ignore_eos=True)
        for length in spread_lengths(new_tokens, len(prompts))
    ]
    start_s = time.perf_counter()
    completions = engine.generate(prompts, params)
    tally.seconds.append(time.perf_counter() - start_s)
    after = engine.stats().counters
    tally.texts.append([completion.text for completion in completions])
    tally.num_tokens += after.num_output_tokens - before.num_output_tokens
    tally.num_steps += after.num_steps - before.num_steps
    tally.num_proposed += after.num_proposed_tokens - before.num_proposed_tokens
    tally.num_accepted += after.num_accepted_tokens - before.num_accepted_tokens


def compare(task: str, batch: int, kind: SpeculationKind, tallies: Mapping[str, Tally]) -> Case:
    plain, again, guessed = (tallies[name] for name in WAYS)
    speedup = ratio_of(plain.seconds, guessed.seconds)
    num_tokens = guessed.num_tokens / len(guessed.seconds)  # of a turn
    return Case(
        task=task,
        batch=batch,
        speculation=kind,
        tokens_per_s=num_tokens / median(guessed.seconds),
        plain_tokens_per_s=num_tokens / median(plain.seconds),
        speedup=speedup,
        control=ratio_of(plain.seconds, again.seconds),
        verdict=speedup.verdict,
        acceptance=guessed.num_accepted / guessed.num_proposed if guessed.num_proposed else None,
        tokens_per_step=guessed.num_tokens / guessed.num_steps,
        plain_tokens_per_step=plain.num_tokens / plain.num_steps,
        same_text=guessed.texts == plain.texts,
    )


def ratio_of(first_s: Sequence[float], second_s: Sequence[float]) -> Ratio:
    """How many times as fast the second way is, by the turns' own ratios."""
    ratios = sorted(first / second for first, second in zip(first_s, second_s, strict=True))
    count = len(ratios)
    # The number of turns below the true median is binomial: so many standard deviations around
    # the middle are its ranks.
    reach = math.ceil(1.96 * math.sqrt(count) / 2)
    low, high = max(0, (count - 1) // 2 - reach), min(count - 1, count // 2 + reach)
    return Ratio(
        median=median(ratios),
        quartiles=(ratios[count // 4], ratios[count - 1 - count // 4]),
        interval=(ratios[low], ratios[high]),
    )
