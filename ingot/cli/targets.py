"""`ingot targets`: what can be compiled for, and which one this machine takes."""

from __future__ import annotations

from ingot.cli.options import Json


def targets(as_json: Json = False) -> None:
    """List the targets and say which this machine runs."""
    from dataclasses import asdict

    from ingot.cli.output import print_json, print_table
    from ingot.runtime.artifact.machine import detect_machine, runs_gpu_code
    from ingot.targets import Target, TargetError, best_cpu_target, detect_cpu, load_targets

    def describe(target: Target) -> str:
        untried = target.kind == "cuda" and not target.met
        return (
            f"{target.description}; compile-only, no such GPU was met"
            if untried
            else target.description
        )

    def runs(target: Target) -> str:
        if cpu is None or machine is None:
            return "?"
        if target.kind == "cuda":
            return "yes" if runs_gpu_code(machine, target) else "no"
        return "no" if cpu.missing(target) else "default" if target.name == default else "yes"

    try:
        cpu, machine = detect_cpu(), detect_machine()
        default = best_cpu_target(cpu).name
    except TargetError:  # a CPU that no target fits still compiles for others
        cpu, machine, default = None, None, ""
    rows = [(target, runs(target)) for target in load_targets().values()]
    if as_json:
        print_json([{**asdict(target), "here": here} for target, here in rows])
        return
    print_table(
        ("target", "here", "scheme", "description"),
        [(t.name, here, t.default_scheme, describe(t)) for t, here in rows],
    )
