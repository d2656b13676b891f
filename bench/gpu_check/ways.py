"""The name of a part to what it does in its own process; nothing is imported before it is asked
for, since a start is timed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.bench.gpu_check.plan import kernels_folder, read_plan


def run_way(way: str, folder: Path, of: Sequence[str], started_s: float) -> dict[str, Any]:
    """`of`: a proof's name; a shape; or a shape and a scheme."""
    if way == "start":
        from ingot.bench.gpu_check.speed import measure_start

        return {**measure_start(folder, of, started_s)}
    plan = read_plan(folder)
    if way == "limits":
        from ingot.bench.gpu_check.limits import measure_limits

        return measure_limits(plan.upload_bytes)
    if way == "kernels":
        from ingot.bench.gpu_check.kernels import check_kernels

        return check_kernels(kernels_folder(folder), print)
    if way == "proof":
        from ingot.bench.gpu_check.proof import prove

        return prove(folder, of)
    if way == "speed":
        from ingot.bench.gpu_check.speed import measure_speed

        return measure_speed(folder, of, plan)
    from ingot.bench.gpu_check.peers import time_peer

    batches = plan.batches if way == "eager" else plan.batches[:1]
    return time_peer(way, folder, of, batches, plan, started_s)
