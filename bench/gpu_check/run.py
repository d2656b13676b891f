"""A prepared folder to results of this machine's GPU: parts one after the other, then bounds."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ingot.bench.gpu_check.bounds import Results, bounds_of
from ingot.bench.gpu_check.parts import WAYS, Runner, list_parts
from ingot.bench.gpu_check.plan import Plan, read_plan
from ingot.bench.gpu_check.table import describe, render
from ingot.bench.gpu_kernels.load import arch_for_this_gpu
from ingot.bench.json_file import write_json
from ingot.bench.machine import query_gpus
from ingot.errors import UsageError

GPU_FIELDS = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,clocks.sm,power.limit"
"""Of the first GPU, as nvidia-smi calls them."""


def run_check(
    folder: Path, out: Path, shapes: Sequence[str], ways: Sequence[str], limit_s: float
) -> bool:
    """Run what is chosen, all if nothing is, for so long; gives whether all that ran is right."""
    end_s = time.monotonic() + limit_s
    plan = choose_shapes(read_plan(folder), shapes)
    check_names("part", ways, WAYS)
    arch_for_this_gpu(plan.archs)
    console = Console()
    log = out.with_suffix(".log")
    log.unlink(missing_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    runner = Runner(folder, end_s, log)
    records = []
    for part in list_parts(plan):
        if ways and part.way not in ways:
            continue
        console.print(f"{part.name} ...", style="dim", highlight=False)
        records.append(runner.run(part))
        console.print(describe(records[-1]), highlight=False)
    found = Results({" ".join((r.way, *r.of)): r.result for r in records})
    bounds = list(bounds_of(found, plan))
    write_json(
        {
            "card": describe_card(),
            "plan": asdict(plan),
            "parts": [{**asdict(record), "ok": record.ok} for record in records],
            "bounds": [{**asdict(bound), "met": bound.met} for bound in bounds],
        },
        out,
    )
    console.print(render(found, bounds, records, plan))
    console.print(
        f"results are in {out}, what the parts printed in {log}; "
        "`ingot tune --target cuda` searches faster kernels' sizes",
        highlight=False,
        soft_wrap=True,
    )
    return all(record.ok for record in records)


def choose_shapes(plan: Plan, wanted: Sequence[str]) -> Plan:
    check_names("shape", wanted, plan.shapes)
    if not wanted:
        return plan
    return replace(plan, shapes={name: plan.shapes[name] for name in plan.shapes if name in wanted})


def check_names(what: str, wanted: Iterable[str], known: Collection[str]) -> None:
    for name in wanted:
        if name not in known:
            raise UsageError(f"no {what} is called {name!r}; there are {', '.join(known)}")


def describe_card() -> dict[str, Any]:
    """The GPU, its driver and its clocks, as nvidia-smi says; empty where there is none to ask."""
    found = query_gpus(GPU_FIELDS)
    return dict(zip(GPU_FIELDS.split(","), found[0], strict=True)) if found else {}
