"""A name as a user types it (`cpu`, `cpu:znver4`, `cuda:sm_80,sm_90`) to a `Target`."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

from ingot.errors import UsageError
from ingot.targets.cpu import Cpu, detect_cpu
from ingot.targets.target import Target, TargetError, load_targets

DEFAULT_CUDA = "cuda:sm_90"

logger = logging.getLogger(__name__)


def best_cpu_target(cpu: Cpu) -> Target:
    """The target with the most instruction sets among those that `cpu` runs."""
    candidates = [
        target
        for target in load_targets().values()
        if target.kind == "cpu" and not cpu.missing(target)
    ]
    if not candidates:
        raise TargetError(
            f"no target fits this CPU ({cpu.model_name}, {cpu.architecture}); "
            "the least is AVX2 with FMA on x86-64, or dot products (asimddp) on aarch64"
        )
    best = max(candidates, key=lambda target: (len(target.features), target.name))
    logger.info("target %s: the best that this CPU (%s) runs", best.name, cpu.model_name)
    return best


def resolve_target(name: str, cpu: Cpu | None = None) -> Target:
    """Find a target by name. `cpu` alone is the best for this machine, `cuda` alone is sm_90.

    `cuda:sm_80,sm_90` is one target with machine code for each.
    """
    if name == "cpu":
        return best_cpu_target(cpu or detect_cpu())
    if name.startswith("cuda:"):
        archs = name.removeprefix("cuda:").split(",")
        return merge_gpus([_find(f"cuda:{arch.strip()}") for arch in archs])
    return _find(name)


def merge_gpus(targets: list[Target]) -> Target:
    """One target for several GPUs: tiles as for the oldest, within the least shared memory."""
    by_arch = {target.cuda_arch: target for target in targets}
    if len(by_arch) == 1:
        return targets[0]
    alone = next((arch for arch in by_arch if arch.endswith("a")), None)
    if alone is not None:
        raise UsageError(
            f"cuda:{alone} is compiled alone: no other GPU runs its kernels",
            f"cuda:{alone.removesuffix('a')} goes with others",
        )
    by_age = sorted(by_arch.values(), key=_age)
    archs = tuple(target.cuda_arch for target in by_age)
    return replace(
        by_age[0],
        name=f"cuda:{','.join(archs)}",
        description="; ".join(target.description for target in by_age),
        cuda_archs=archs,
        max_threads_per_block=min(target.max_threads_per_block for target in by_age),
        shared_memory_bytes=min(target.shared_memory_bytes for target in by_age),
    )


def _age(target: Target) -> int:
    return int(target.cuda_arch.removeprefix("sm_"))


def _find(name: str) -> Target:
    targets = load_targets()
    found = targets.get(DEFAULT_CUDA if name == "cuda" else name)
    if found is None:
        kind, separator, _ = name.partition(":")
        same_kind = [other for other in targets if other.startswith(f"{kind}:") and separator]
        allowed = same_kind or ["cpu", "cuda", *targets]
        raise UsageError(
            f"unknown target {name!r}; the targets are {', '.join(allowed)}", _advice(name, allowed)
        )
    return found


def _advice(name: str, allowed: list[str]) -> str:
    """What may have been meant by a name that no target has."""
    import difflib

    if gpu := re.fullmatch(r"cuda:sm_(\d+)a?", name):
        oldest = min(filter(str.isdigit, (other.rpartition("_")[2] for other in allowed)), key=int)
        if int(gpu[1]) < int(oldest):
            return f"sm_{oldest} is the oldest kind of GPU that the kernels run on"
        return "a GPU that isn't listed runs code for an older one; `ingot targets` describes them"
    if "cuda:" in name and " " in name:
        return "several are separated by commas alone: cuda:sm_80,sm_90"
    if name.lower() in ("gpu", "nvidia"):
        return "did you mean cuda?"
    close = difflib.get_close_matches(name.lower(), allowed, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "`ingot targets` describes them"
