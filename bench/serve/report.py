"""Turns records into the figures of each level of load, as data that goes to JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ingot.bench.json_file import write_json
from ingot.bench.machine import Machine
from ingot.bench.serve.client import Record
from ingot.bench.serve.load import Load

SCHEMA_VERSION = 1
MAX_ERRORS = 5


@dataclass(frozen=True, slots=True)
class Percentiles:
    p50: float
    p90: float
    p99: float
    mean: float
    max: float
    count: int


@dataclass(frozen=True, slots=True)
class Slo:
    """An answer is good if its first token and its mean time a token are within both."""

    ttft_s: float
    tpot_s: float

    def holds(self, record: Record) -> bool:
        if record.outcome != "done" or record.ttft_s is None or record.ttft_s > self.ttft_s:
            return False
        return record.tpot_s is None or record.tpot_s <= self.tpot_s


@dataclass(frozen=True, slots=True)
class Level:
    """One level of load. Rates are over `duration_s`, from the beginning to the last answer.

    ttft_s      first token, from when the request was due
    tpot_s      mean time from one token to the next, of each answer
    itl_s       time from one piece of text to the next, of all answers together
    goodput     answers a second that were within the SLO
    lateness_s  how much later than due the client sent: large, and the client was the bottleneck
    """

    load: Load
    duration_s: float
    num_done: int
    num_cancelled: int
    num_refused: int
    num_failed: int
    requests_per_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    goodput: float
    good_share: float
    ttft_s: Percentiles | None
    tpot_s: Percentiles | None
    itl_s: Percentiles | None
    lateness_s: Percentiles | None
    errors: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ServeSettings:
    url: str
    model: str
    endpoint: str
    prompt_tokens: str
    output_tokens: str
    prefix_tokens: int
    prefix_groups: int
    cancel_share: float
    token_ids: int
    slo: Slo
    seed: int
    words_per_token: float
    extra: dict[str, object]


@dataclass(frozen=True, slots=True)
class ServeReport:
    created: str
    command: str
    settings: ServeSettings
    machine: Machine  # of the client; the server may run elsewhere
    levels: tuple[Level, ...]
    schema_version: int = SCHEMA_VERSION


def percentiles(values: Iterable[float | None]) -> Percentiles | None:
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return None
    p50, p90, p99 = (float(value) for value in np.percentile(known, (50, 90, 99)))
    return Percentiles(p50, p90, p99, float(known.mean()), float(known.max()), len(known))


def summarize(load: Load, records: Sequence[Record], slo: Slo) -> Level:
    """`records` in any order; at least one. Cancelled answers count in rates, not in latencies."""
    duration_s = max(record.end_s for record in records)
    outcomes = Counter(record.outcome for record in records)
    done = [record for record in records if record.outcome == "done"]
    served = [record for record in records if record.outcome in ("done", "cancelled")]
    num_good = sum(slo.holds(record) for record in records)
    errors = Counter(record.error for record in records if record.error)
    return Level(
        load=load,
        duration_s=duration_s,
        num_done=len(done),
        num_cancelled=outcomes["cancelled"],
        num_refused=outcomes["refused"],
        num_failed=outcomes["failed"],
        requests_per_s=len(done) / duration_s,
        prompt_tokens_per_s=sum(record.num_prompt_tokens for record in served) / duration_s,
        output_tokens_per_s=sum(record.num_output_tokens for record in served) / duration_s,
        goodput=num_good / duration_s,
        good_share=num_good / max(1, len(records) - outcomes["cancelled"]),
        ttft_s=percentiles(record.ttft_s for record in done),
        tpot_s=percentiles(record.tpot_s for record in done),
        itl_s=percentiles(gap for record in done for gap in record.gaps_s),
        lateness_s=percentiles(record.sent_s - record.due_s for record in records),
        errors=tuple(errors.most_common(MAX_ERRORS)),
    )


def write_report(report: ServeReport, path: Path) -> None:
    write_json(report, path)
