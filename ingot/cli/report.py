"""What a compile did to a table: each stage's time, what each rewrite matched, and the proof."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingot.compile.api import CompileResult
    from ingot.compile.report import CompileReport


def print_report(result: CompileResult, *, as_json: bool) -> None:
    from ingot.cli.output import format_bytes, print_fields, print_json, print_table

    manifest, report = result.manifest, result.report
    if as_json:
        record = {
            "path": str(result.path),
            "report": report.as_dict(),
            "proof": manifest.proof.model_dump(mode="json"),
        }
        print_json(record)
        return
    print_table(("stage", "seconds", "matched"), stage_rows(report))
    left = ", ".join(
        f"{name.removeprefix('relax.')} {count}"
        for name, count in sorted(report.leftover_operators.items())
    )
    size = sum(file.bytes for file in manifest.files)
    print()
    print_fields(
        {
            "artifact": f"{result.path} ({format_bytes(size)})",
            "model": manifest.model.name,
            "target": manifest.target.name,
            "scheme": manifest.scheme.name,
            **({"sizes": report.sizes} if report.sizes else {}),
            "left to TVM": left or "none",
            **({"spilling": ", ".join(sorted(set(report.spilling)))} if report.spilling else {}),
            "proof": manifest.proof.status,
        }
    )
    path = shlex.quote(str(result.path))
    if manifest.proof.status == "proven":  # so it runs on this machine
        print(f'\ntry: ingot run {path} "def fibonacci("', file=sys.stderr)
    if manifest.proof.status == "pending":  # so it doesn't
        print(f"\nnot compared with eager: {report.pending}", file=sys.stderr)
        print(f"next: `ingot verify {path}` on a machine that runs it", file=sys.stderr)


def stage_rows(report: CompileReport) -> list[tuple[str, str, object]]:
    """A row a stage; below it the rewrites that ran in it, each once, and the total at the end."""
    rows: list[tuple[str, str, object]] = []
    rewrites: dict[str, float] = {}
    total = 0.0
    for stage in report.stages:
        if stage.num_matched is not None:
            rewrites[stage.name] = rewrites.get(stage.name, 0.0) + stage.seconds
            continue
        total += stage.seconds
        rows.append((stage.name, f"{stage.seconds:.2f}", ""))
        for name, seconds in rewrites.items():
            rows.append((f"  {name}", f"{seconds:.2f}", report.rewrites[name]))
        rewrites = {}
    return [*rows, ("total", f"{total:.2f}", "")]
