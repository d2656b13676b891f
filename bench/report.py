"""A comparison as data: frozen dataclasses, and the JSON that they are written as."""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ingot.bench.json_file import write_json
from ingot.bench.machine import Machine
from ingot.bench.prompts import Case

SCHEMA_VERSION = 1
Status = Literal["measured", "unavailable", "failed"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some measurements and how far they lie apart."""

    median: float
    q1: float
    q3: float
    count: int

    @property
    def iqr(self) -> float:
        return self.q3 - self.q1


def spread(values: Sequence[float]) -> Spread:
    """Quartiles by linear interpolation, the extremes included."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, q1, q3, len(values))


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed generation."""

    turn: int
    ttft_s: float
    tpot_s: float  # mean over the steps after the first token


@dataclass(frozen=True, slots=True)
class Agreement:
    """Greedy tokens against eager's. After its first difference a text is another text, so only
    the tokens before it count as equal."""

    num_equal_texts: int
    num_texts: int
    equal_tokens_ratio: float


@dataclass(frozen=True, slots=True)
class CaseReport:
    case: Case
    ttft_s: Spread
    tpot_s: Spread
    prefill_tokens_per_s: Spread
    decode_tokens_per_s: Spread
    agreement: Agreement | None  # None: eager wasn't run
    repeatable: bool  # every turn gave the same tokens
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class BackendReport:
    name: str
    status: Status
    reason: str = ""  # why it wasn't measured
    prepare_s: float | None = None  # once: an export, an artifact
    load_s: Spread | None = None  # process start to ready
    first_token_s: Spread | None = None  # process start to the first token ever
    warm_up_s: Spread | None = None  # untimed generations before the timed ones, all cases
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    details: dict[str, str] = dataclasses.field(default_factory=dict)
    cases: tuple[CaseReport, ...] = ()

    def find(self, case: Case) -> CaseReport | None:
        return next((report for report in self.cases if report.case == case), None)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The least that this machine's limits allow the compiled backend in one case."""

    case: Case
    ttft_s: float
    tpot_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    model: str
    quant: str
    dtype: str
    device: str
    threads: int
    prompt_lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    new_tokens: int
    repetitions: int  # timed generations of a case in each turn
    warm_ups: int
    turns: tuple[tuple[str, ...], ...]  # the order in which the backends ran
    seed: int
    prompt_source: str
    prompts_sha256: str


@dataclass(frozen=True, slots=True)
class Report:
    created: str
    command: str
    settings: Settings
    machine: Machine
    versions: dict[str, str]
    backends: tuple[BackendReport, ...]
    predictions: tuple[Prediction, ...] = ()  # empty without limits of this machine
    schema_version: int = SCHEMA_VERSION

    @property
    def cases(self) -> tuple[Case, ...]:
        return tuple(
            Case(length, batch)
            for length in self.settings.prompt_lengths
            for batch in self.settings.batch_sizes
        )

    def backend(self, name: str) -> BackendReport | None:
        return next((backend for backend in self.backends if backend.name == name), None)

    def ratio_to_eager(self, name: str, case: Case, figure: str) -> float | None:
        """How many times eager's median this backend's is; `figure` names a field of CaseReport."""
        found = [self.backend(which) for which in (name, "eager")]
        cases = [backend.find(case) if backend else None for backend in found]
        if cases[0] is None or cases[1] is None:
            return None
        mine, eager = (getattr(report, figure).median for report in cases)
        return float(mine / eager)


def write_report(report: Report, path: Path) -> None:
    write_json(report, path)
