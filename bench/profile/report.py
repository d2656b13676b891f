"""Times, work and limits to a profile: a row for each kernel and for everything else in a step."""

from __future__ import annotations

import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ingot.bench.limits.record import Limits
from ingot.bench.machine import Machine, describe_machine
from ingot.bench.profile.case import Case
from ingot.bench.profile.measure import Timings
from ingot.errors import IngotError
from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.artifact.work import WorkRecord, evaluate

SCHEMA_VERSION = 1
# A kernel at this share of a limit is bound by it; the rest is loop overhead and the edges.
BOUND_SHARE = 0.6
# A kernel this many times its launch's cost, or less, is bound by that.
LAUNCH_FACTOR = 2.0

Verdict = Literal[
    "bandwidth-bound", "compute-bound", "launch-bound", "unfused", "unvectorised", "below the limit"
]


@dataclass(frozen=True, slots=True)
class Load:
    """What the calls of one record come to in a case, and the least time they can take."""

    bytes: int
    operations: int
    memory_s: float  # at the bandwidth of where the bytes are
    compute_s: float  # at the peak of the arithmetic
    bandwidth: str  # the names of both limits
    peak: str

    @property
    def limit_s(self) -> float:
        return max(self.memory_s, self.compute_s)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the profile. What isn't a kernel has neither a load nor a limit."""

    name: str
    kind: str  # the operator, `core`, or `overhead`
    label: str
    calls: int
    time_s: float
    share: float  # of the step
    load: Load | None = None
    achieved: float | None = None  # of the limit
    verdict: Verdict | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Overhead:
    """Everything in a step that is no kernel: the engine, the virtual machine, sampling."""

    time_s: float
    share: float  # of the step
    waking_s: float  # waking the threads, by the machine's limits: part of the kernels' times

    @property
    def sentence(self) -> str:
        return (
            f"Everything that is no kernel takes {self.time_s * 1e6:,.0f} µs, {self.share:.1%} of "
            f"the step. Of the kernels' time {self.waking_s * 1e6:,.0f} µs is waking threads."
        )


@dataclass(frozen=True, slots=True)
class Profile:
    created: str
    model: str
    scheme: str
    target: str
    case: Case
    machine: Machine
    limits: Limits
    timings: Timings
    rows: tuple[Row, ...]
    overhead: Overhead
    schema_version: int = SCHEMA_VERSION

    @property
    def covered(self) -> float:
        """How much of the step the rows explain; above 1 where the observer disturbed it."""
        return sum(row.time_s for row in self.rows) / self.timings.total_s

    @property
    def kinds(self) -> tuple[Row, ...]:
        """The rows added up by kind, the longest first."""
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row.kind].append(row)
        merged = [_merge(kind, rows) for kind, rows in groups.items()]
        return tuple(sorted(merged, key=lambda row: -row.time_s))


def load_of(
    record: WorkRecord, case: Case, manifest: Manifest, limits: Limits, resident_bytes: int
) -> Load:
    """One call's load. `resident_bytes`: the weights and cache that a step reads in all, which
    decides from where they come the next time."""
    dimensions = case.dimensions(manifest.page_size_tokens, record.window)
    stored = record.weight_bytes + evaluate(record.kv_bytes, dimensions)
    activations = evaluate(record.activation_bytes, dimensions)
    operations = evaluate(record.operations, dimensions)
    far, near = limits.read_bandwidth(resident_bytes), limits.read_bandwidth(activations)
    far_s, near_s = stored / far.best, activations / near.best
    peak = limits.peak(record.arithmetic, manifest.target.features)
    return Load(
        bytes=stored + activations,
        operations=operations,
        memory_s=far_s + near_s,
        compute_s=operations / peak.best,
        bandwidth=(far if far_s >= near_s else near).name,
        peak=peak.name,
    )


def resident_bytes(manifest: Manifest, case: Case) -> int:
    """Weights and cached keys and values that one step reads."""
    return sum(
        len(record.calls)
        * (
            record.weight_bytes
            + evaluate(record.kv_bytes, case.dimensions(manifest.page_size_tokens, record.window))
        )
        for record in manifest.work
    )


def make_profile(manifest: Manifest, case: Case, timings: Timings, limits: Limits) -> Profile:
    names = [name for name, _ in timings.kernels]
    expected = {call: record.kernel for record in manifest.work for call in record.calls}
    if names != [expected.get(i) for i in range(len(expected))]:
        raise IngotError(
            "the step called other kernels than the manifest says",
            hint="compile the artifact again with this version of Ingot",
        )
    if timings.memory_reads:
        limits = limits.with_memory_reads(timings.memory_reads)
    resident = resident_bytes(manifest, case)
    rows = []
    for record in manifest.work:
        time_s = sum(timings.kernels[call][1] for call in record.calls)
        load = load_of(record, case, manifest, limits, resident)
        rows.append(kernel_row(record, load, time_s, timings, limits))
    others = overhead_rows(timings)
    rows += others
    regions = sum(len(record.calls) * record.parallel_regions for record in manifest.work)
    overhead = Overhead(
        time_s=sum(row.time_s for row in others),
        share=sum(row.share for row in others),
        waking_s=regions * limits.figure("region").best,
    )
    return Profile(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        model=manifest.model.name,
        scheme=manifest.scheme.name,
        target=manifest.target.name,
        case=case,
        machine=describe_machine(),
        limits=limits,
        timings=timings,
        rows=tuple(sorted(rows, key=lambda row: -row.time_s)),
        overhead=overhead,
    )


def kernel_row(
    record: WorkRecord, one: Load, time_s: float, timings: Timings, limits: Limits
) -> Row:
    calls = len(record.calls)
    load = dataclasses.replace(
        one,
        bytes=one.bytes * calls,
        operations=one.operations * calls,
        memory_s=one.memory_s * calls,
        compute_s=one.compute_s * calls,
    )
    achieved = load.limit_s / time_s
    verdict, why = explain(record, load, time_s, achieved, limits)
    return Row(
        name=name_of(record),
        kind=record.op,
        label=record.label,
        calls=calls,
        time_s=time_s,
        share=time_s / timings.total_s,
        load=load,
        achieved=achieved,
        verdict=verdict,
        why=why,
    )


def name_of(record: WorkRecord) -> str:
    """Where the kernel is in the model, or what it is where it reads no weight."""
    if record.op == "core":
        return record.kernel
    place = record.place.removeprefix("model.")
    # A tied table is read by the embedding and by the head.
    return f"embedding {place}" if record.op == "embedding" else place


def explain(
    record: WorkRecord, load: Load, time_s: float, achieved: float, limits: Limits
) -> tuple[Verdict, str]:
    """Which limit holds a kernel, in a word and in a sentence."""
    by_memory = load.memory_s >= load.compute_s
    limit = (
        f"{load.bytes / time_s / 1e9:.3g} GB/s, {achieved:.0%} of what {load.bandwidth}s give"
        if by_memory
        else f"{load.operations / time_s / 1e9:.3g} Gop/s, {achieved:.0%} of the "
        f"{load.peak.partition(' ')[0]} peak"
    )
    if achieved >= BOUND_SHARE:
        word: Verdict = "bandwidth-bound" if by_memory else "compute-bound"
        return word, f"{word}: {limit}"
    regions = record.parallel_regions * limits.figure("region").best
    launch = len(record.calls) * (regions + limits.figure("kernel call").best)
    if time_s <= LAUNCH_FACTOR * (launch + load.limit_s) and launch > load.limit_s:
        each = time_s / len(record.calls)
        return "launch-bound", (
            f"launch-bound: {each * 1e6:.2g} µs a call, of which starting it takes "
            f"{launch / len(record.calls) * 1e6:.2g} µs and the work "
            f"{load.limit_s / len(record.calls) * 1e6:.2g} µs"
        )
    if record.op == "core":
        return "unfused", f"unfused: core operators that no rewrite takes in; {limit}"
    if not record.is_vectorised:
        return "unvectorised", f"unvectorised: the loop has no vectors; {limit}"
    return "below the limit", f"below the limit: {limit}"


def overhead_rows(timings: Timings) -> list[Row]:
    """What isn't a kernel: each has a time and nothing to be measured against."""
    calls = sum(count for count, _ in timings.others.values())
    machine_s = sum(seconds for _, seconds in timings.others.values())
    found = (
        (
            "engine",
            1,
            timings.python_s,
            "Python: scheduling, the step's inputs, text; measured with nothing to run",
        ),
        ("inputs", 1, timings.lend_s, "Python: handing arrays and memory to compiled code"),
        ("virtual machine", calls, machine_s, "checks, shapes and tuples between the kernels"),
        ("sampling", 1, timings.sample_s, "greedy, with its inputs and the tokens' way back"),
    )
    return [
        Row(name, "overhead", "", count, seconds, seconds / timings.total_s, why=why)
        for name, count, seconds, why in found
    ]


def _merge(kind: str, rows: Sequence[Row]) -> Row:
    time_s = sum(row.time_s for row in rows)
    loads = [row.load for row in rows if row.load is not None]
    load = None
    if loads:
        longest = max(loads, key=lambda load: load.limit_s)
        load = dataclasses.replace(
            longest,
            bytes=sum(one.bytes for one in loads),
            operations=sum(one.operations for one in loads),
            memory_s=sum(one.memory_s for one in loads),
            compute_s=sum(one.compute_s for one in loads),
        )
    limit_s = sum(one.limit_s for one in loads)
    return Row(
        name=kind,
        kind=kind,
        label="",
        calls=sum(row.calls for row in rows),
        time_s=time_s,
        share=sum(row.share for row in rows),
        load=load,
        achieved=limit_s / time_s if loads and time_s else None,
    )
