"""A manifest and the machine's limits to what a context and a batch will take, before they run.

A kernel takes as long as its bytes at the machine's bandwidth or its operations at the peak,
whichever is longer, and what starting it costs: the least that this machine allows. What kernels
lose on the way is what a profile shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingot.bench.limits.record import Limits
from ingot.bench.profile.case import Case, decode
from ingot.bench.profile.report import load_of, resident_bytes
from ingot.errors import IngotError, UsageError
from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.artifact.work import evaluate
from ingot.runtime.limits import DEFAULT_MAX_STEP_TOKENS

FLOAT = 4


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """Bytes that the artifact needs beside what any process takes."""

    weights: int
    kv: int  # whole pages of every sequence
    kv_per_token: int
    workspace: int  # the tensors of a step

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.workspace


@dataclass(frozen=True, slots=True)
class TimeForecast:
    """Seconds that the machine's limits allow; scheduling and sampling come on top."""

    ttft_s: float  # until the last of `batch` prompts has its first token
    tpot_s: float  # of each further token, at the full context


def forecast_memory(
    manifest: Manifest, context: int, batch: int, step_tokens: int = DEFAULT_MAX_STEP_TOKENS
) -> MemoryForecast:
    check(manifest, context, batch)
    page = manifest.page_size_tokens
    per_token = sum(slot.token_bytes for slot in manifest.kv_slots)
    return MemoryForecast(
        weights=sum(weight.bytes for weight in manifest.weights),
        kv=batch * -(-context // page) * page * per_token,
        kv_per_token=per_token,
        workspace=workspace_bytes(manifest, context, batch, step_tokens),
    )


def workspace_bytes(manifest: Manifest, context: int, batch: int, step_tokens: int) -> int:
    """What the largest step takes for its tensors: as planned, or estimated where nothing is."""
    step = manifest.step
    case = Case("prefill", min(step_tokens, context), 1, context)
    dimensions = case.dimensions(manifest.page_size_tokens) | {"b": batch, "m": batch}
    planned = [
        name for name in (step.functions.step, step.functions.sample) if name in step.workspace
    ]
    if planned:
        dimensions["n"] = min(step_tokens, batch * context)
        return sum(evaluate(step.workspace[name], dimensions) for name in planned)
    largest = max(
        (evaluate(record.activation_bytes, dimensions) for record in manifest.work), default=0
    )
    residual = 2 * FLOAT * step.hidden_size * case.tokens
    return largest + residual + FLOAT * batch * step.vocab_size


def forecast_times(
    manifest: Manifest,
    limits: Limits,
    context: int,
    batch: int,
    step_tokens: int = DEFAULT_MAX_STEP_TOKENS,
) -> TimeForecast:
    """`step_tokens`: what one step computes at most, as the engine is told."""
    check(manifest, context, batch)
    if manifest.target.kind != "cpu":
        raise IngotError("times are forecast for CPUs only")
    if not manifest.work:
        raise IngotError(
            "times can't be forecast: the artifact doesn't say what its kernels do",
            hint="compile it again with this version of Ingot",
        )
    return TimeForecast(
        ttft_s=sum(step_seconds(manifest, limits, c) for c in chunks(context, batch, step_tokens)),
        tpot_s=step_seconds(manifest, limits, decode(context, batch)),
    )


def chunks(context: int, batch: int, step_tokens: int) -> list[Case]:
    """The steps that read `batch` prompts: several whole ones each, or one prompt in pieces."""
    if context <= step_tokens:
        together = step_tokens // context
        whole, rest = divmod(batch, together)
        sizes = [together] * whole + ([rest] if rest else [])
        return [Case("prefill", context, size, context) for size in sizes]
    pieces = []
    for start in range(0, context, step_tokens):
        end = min(start + step_tokens, context)
        pieces.append(Case("prefill", end - start, 1, end))
    return pieces * batch


def step_seconds(manifest: Manifest, limits: Limits, case: Case) -> float:
    """One step at the machine's limits, with what its kernels cost to start."""
    resident = resident_bytes(manifest, case)
    region, call = limits.figure("region").best, limits.figure("kernel call").best
    return sum(
        len(record.calls)
        * (
            load_of(record, case, manifest, limits, resident).limit_s
            + call
            + region * record.parallel_regions
        )
        for record in manifest.work
    )


def check(manifest: Manifest, context: int, batch: int) -> None:
    most = manifest.step.max_context_tokens
    if not 1 <= context <= most:
        raise UsageError(f"the context is {context} tokens; the artifact holds 1 to {most}")
    if batch < 1:
        raise UsageError(f"the batch is {batch}; it is at least 1")
